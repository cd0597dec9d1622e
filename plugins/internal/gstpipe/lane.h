// The lane carries pictures from their source into the encoder and units from it to the host runtime on GStreamer's own threads, so that
// no thread of Go's wakes for a picture: each wake-up, with the scheduler's and its monitor thread's behind it, cost 2 % of an encoder
// (measured 2026-11-29, 2 cores, 720p at 60 pictures per second).
//
// Go lends it what it knows and takes it back whenever it has something to do. Lent, the lane does what Go would do with an ordinary
// picture and an ordinary unit. What is not ordinary (another layout, a keyframe, a picture before its time, an error) it leaves
// alone, to go the way through Go; so nothing here decides anything that Go does not decide as well.
#ifndef WAVRY_GSTPIPE_LANE_H
#define WAVRY_GSTPIPE_LANE_H

#include "bridge.h"

typedef struct wavry_lane wavry_lane;
typedef struct wavry_buffers wavry_buffers;
typedef struct wavry_inbox wavry_inbox;

// A picture with what is known about it; whoever holds the frame holds the reference. Times are CLOCK_MONOTONIC ns.
typedef struct {
  GstBuffer *picture; // NULL: none
  gint64 capture, handoff;
  gboolean repeat;
} wavry_frame;

// What an encoder and its watcher want, fixed as long as the lane is lent.
typedef struct {
  GstElement *appsrc;
  gint64 base;     // CLOCK_MONOTONIC of the chain's time 0
  gint64 duration; // of a picture
  gint64 interval; // of the rate limit, 0: none
  wavry_layout layout;
  gsize size;             // bytes of memory that a picture of this layout needs
  gint64 oldest;          // a capture time longer ago, or to come, is none
  wavry_buffers *buffers; // that pictures lie in; NULL: the source has enough
  int units;              // the host runtime's socket
  guint8 codec;
} wavry_terms;

// What changes with each picture.
typedef struct {
  wavry_frame waiting, last, flight; // flight: in the encoder
  gint64 due;                        // of the rate limit
  gint64 sent;                       // when the last picture went in
  gint64 at;                         // the chain's time of that picture
  guint64 next;                      // sequence of the next unit
} wavry_turn;

// What the lane did since it was made, and does.
typedef struct {
  guint64 in, out, dropped;
  gint64 captured, arrived; // of the newest picture
  gboolean writing; // a unit is not yet with the host runtime
  int error;        // errno of a failed write to the host runtime, reported once
} wavry_done;

wavry_lane *wavry_lane_new(int wake); // an eventfd of the caller's, written to when Go should look
void wavry_lane_free(wavry_lane *);   // after all that it carries for is gone
void wavry_lane_lend(wavry_lane *, const wavry_terms *, const wavry_turn *);
void wavry_lane_take(wavry_lane *, wavry_turn *, wavry_done *);
gboolean wavry_lane_settle(wavry_lane *, gint64 limit);
gboolean wavry_lane_picture(wavry_lane *, GstBuffer *, const wavry_layout *, gsize size, gint64 capture, gboolean repeat); // TRUE: taken over
void wavry_lane_go(wavry_lane *); // after wavry_lane_picture: encodes the newest on this thread
gboolean wavry_lane_bring(wavry_lane *, const wavry_raw *); // both at once; TRUE: its picture was taken over
void wavry_lane_carry_units(wavry_lane *, GstElement *appsink);

// ---- inbox: pictures that come to a chain's sink

wavry_inbox *wavry_inbox_new(GstElement *sink, int wake, wavry_lane *, gboolean latest);
gboolean wavry_inbox_pull(wavry_inbox *, wavry_raw *out);
void wavry_inbox_empty(wavry_inbox *); // gives back what was not pulled
void wavry_inbox_free(wavry_inbox *); // after its sink

// ---- buffers: memory that a capturer lends and takes back

wavry_buffers *wavry_buffers_new(int socket); // the frame socket, the caller's; -1: nobody wants anything back
void wavry_buffers_close(wavry_buffers *);
gboolean wavry_buffers_add(wavry_buffers *, guint32 id, int fd, gsize size, gboolean dmabuf, const wavry_layout *);
void wavry_buffers_forget(wavry_buffers *, guint32 id);
GstBuffer *wavry_buffers_take(wavry_buffers *, guint32 id);
gboolean wavry_buffers_spare(wavry_buffers *);

// One message of a frame socket that the lane did not take.
typedef struct {
  guint8 packet[256], rights[32];
  gsize packet_size, rights_size;
  int flags;
  wavry_frame frame; // instead, when the packet is a FRAME in a buffer that was there to take
  guint32 buffer;    // of the frame
} wavry_message;

int wavry_buffers_read(wavry_buffers *, wavry_lane *, wavry_message *); // 0 or errno; blocks

gint64 wavry_now(void); // CLOCK_MONOTONIC ns

// ---- of bridge.c

void wavry_probe(GstElement *sink, GstPadProbeCallback, gpointer data);
void wavry_describe(GstBuffer *picture, const wavry_layout *layout);
void wavry_look_at_raw(GstPad *pad, GstBuffer *original, wavry_raw *out);
GstBuffer *wavry_timed(GstBuffer *picture, gint64 pts, gint64 duration);

#endif
