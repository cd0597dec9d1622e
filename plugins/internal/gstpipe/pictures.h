// The two ends that pictures come from: inbox.c takes them from a chain, buffers.c from memory that a capturer lends.
#ifndef WAVRY_GSTPIPE_PICTURES_H
#define WAVRY_GSTPIPE_PICTURES_H

#include "bridge.h"

typedef struct wavry_buffers wavry_buffers;
typedef struct wavry_inbox wavry_inbox;

// ---- inbox: pictures that come to a chain's sink

wavry_inbox *wavry_inbox_new(GstElement *sink, int wake, gboolean latest);
gboolean wavry_inbox_pull(wavry_inbox *, wavry_raw *out);
void wavry_inbox_empty(wavry_inbox *); // gives back what was not pulled
void wavry_inbox_free(wavry_inbox *); // after its sink

// ---- buffers: memory that a capturer lends and takes back

wavry_buffers *wavry_buffers_new(int socket); // the frame socket, the caller's; -1: nobody wants anything back
void wavry_buffers_close(wavry_buffers *);
gboolean wavry_buffers_add(wavry_buffers *, guint32 id, int fd, gsize size, gboolean dmabuf, const wavry_layout *,
                           const void *release, gsize release_size); // the message that gives the buffer back
void wavry_buffers_forget(wavry_buffers *, guint32 id);
GstBuffer *wavry_buffers_take(wavry_buffers *, guint32 id);
gboolean wavry_buffers_spare(wavry_buffers *);

// ---- of bridge.c

void wavry_probe(GstElement *sink, GstPadProbeCallback, gpointer data);
void wavry_describe(GstBuffer *picture, const wavry_layout *layout);
void wavry_look_at_raw(GstPad *pad, GstBuffer *original, wavry_raw *out);

#endif
