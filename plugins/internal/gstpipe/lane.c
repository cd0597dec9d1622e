#include "lane.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <gst/app/gstappsrc.h>

struct wavry_lane {
  int wake;
  GMutex lock;
  GCond written;
  gboolean lent;
  wavry_terms terms;
  wavry_turn turn;
  wavry_done done;
  gint64 took; // by the encoder for the last picture
};

gint64 wavry_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (gint64)t.tv_sec * GST_SECOND + t.tv_nsec;
}

wavry_lane *wavry_lane_new(int wake) {
  wavry_lane *l = g_new0(wavry_lane, 1);
  l->wake = wake;
  g_mutex_init(&l->lock);
  g_cond_init(&l->written);
  return l;
}

void wavry_lane_free(wavry_lane *l) {
  g_mutex_clear(&l->lock);
  g_cond_clear(&l->written);
  g_free(l);
}

void wavry_lane_lend(wavry_lane *l, const wavry_terms *terms, const wavry_turn *turn) {
  g_mutex_lock(&l->lock);
  l->terms = *terms;
  l->turn = *turn;
  l->lent = TRUE;
  g_mutex_unlock(&l->lock);
}

void wavry_lane_take(wavry_lane *l, wavry_turn *turn, wavry_done *done) {
  g_mutex_lock(&l->lock);
  l->lent = FALSE;
  *turn = l->turn;
  *done = l->done;
  l->done.error = 0;
  g_mutex_unlock(&l->lock);
}

// Waits until no unit is being written; FALSE when one still is after the time in us.
gboolean wavry_lane_settle(wavry_lane *l, gint64 limit) {
  gint64 end = g_get_monotonic_time() + limit;
  g_mutex_lock(&l->lock);
  while (l->done.writing && g_cond_wait_until(&l->written, &l->lock, end)) {
  }
  gboolean settled = !l->done.writing;
  g_mutex_unlock(&l->lock);
  return settled;
}

// ---- pictures

// References that are given back after the lock is released: the last one of a picture calls into its source.
typedef struct {
  GstBuffer *pictures[2];
  guint n;
} refuse;

static void discard(refuse *r, wavry_frame *f) {
  if (f->picture != NULL)
    r->pictures[r->n++] = f->picture;
  f->picture = NULL;
}

static void give_back(refuse *r) {
  for (guint i = 0; i < r->n; i++)
    gst_buffer_unref(r->pictures[i]);
}

// A picture that goes into the encoder once the lock is released.
typedef struct {
  GstElement *appsrc; // NULL: none does
  GstBuffer *picture;
} departure;

// Lets the waiting picture go when its time has come. The rate limit is Go's pace.
static departure begin(wavry_lane *l) {
  wavry_turn *t = &l->turn;
  if (!l->lent || t->waiting.picture == NULL || t->flight.picture != NULL || l->done.writing)
    return (departure){0};
  gint64 at = wavry_now();
  if (at < t->due - l->terms.interval) {
    wavry_wake(l->wake); // it needs a timer
    return (departure){0};
  }
  t->flight = t->waiting;
  t->waiting.picture = NULL;
  t->at = MAX(t->at + 1, at - l->terms.base);
  t->due = MAX(t->due, at) + l->terms.interval;
  t->sent = at;
  return (departure){gst_object_ref(l->terms.appsrc), wavry_timed(t->flight.picture, t->at, l->terms.duration)};
}

// Refused only by a chain that failed or ended: it says so itself, and Go looks after pictures that do not come out. With `here` the chain
// works on this thread, which saves the wake-up of its own, and returns when it has made what it makes of the picture.
static void depart(departure d, gboolean here) {
  if (d.appsrc == NULL)
    return;
  if (here) {
    GstPad *pad = gst_element_get_static_pad(d.appsrc, "src");
    gst_pad_push(pad, d.picture);
    gst_object_unref(pad);
  } else {
    gst_app_src_push_buffer(GST_APP_SRC_CAST(d.appsrc), d.picture);
  }
  gst_object_unref(d.appsrc);
}

// For a thread that looks for newer pictures before it calls.
void wavry_lane_go(wavry_lane *l) {
  g_mutex_lock(&l->lock);
  departure d = begin(l);
  g_mutex_unlock(&l->lock);
  depart(d, TRUE);
}

gboolean wavry_lane_picture(wavry_lane *l, GstBuffer *picture, const wavry_layout *layout, gsize size, gint64 capture, gboolean repeat) {
  refuse r = {0};
  g_mutex_lock(&l->lock);
  gboolean ok = l->lent && size >= l->terms.size && memcmp(layout, &l->terms.layout, sizeof *layout) == 0;
  if (ok) {
    wavry_turn *t = &l->turn;
    gint64 at = wavry_now();
    if (capture > at || capture < at - l->terms.oldest)
      capture = at;
    l->done.in++;
    l->done.captured = capture;
    l->done.arrived = at;
    if (t->waiting.picture != NULL)
      l->done.dropped++;
    discard(&r, &t->waiting);
    discard(&r, &t->last);
    t->waiting = (wavry_frame){picture, capture, at, repeat};
  }
  g_mutex_unlock(&l->lock);
  give_back(&r);
  return ok;
}

// Takes a picture of a thread that brings them one by one, and must be back for the next, which may replace one that waits: it works
// for the chain only if the chain is quick.
gboolean wavry_lane_bring(wavry_lane *l, const wavry_raw *raw) {
  if (raw->buffer == NULL || raw->dmabuf || !wavry_lane_picture(l, raw->buffer, &raw->layout, raw->size, raw->taken, FALSE))
    return FALSE;
  g_mutex_lock(&l->lock);
  departure d = begin(l);
  gboolean quick = l->took + l->took / 3 < l->terms.duration;
  g_mutex_unlock(&l->lock);
  depart(d, quick);
  return TRUE;
}

// ---- units

static guint8 *put(guint8 *p, guint64 v, guint bytes) {
  for (guint i = bytes; i > 0; i--)
    *p++ = v >> (8 * (i - 1));
  return p;
}

enum { HEADER_SIZE = 46, FLAG_REPEAT = 2, MAX_UNIT = 16 << 20 };

// The header of package unitsocket.
static void put_header(guint8 *p, gsize length, guint64 sequence, const wavry_terms *t, const wavry_frame *f, gint64 encoded) {
  p = put(p, length, 4);
  p = put(p, sequence, 8);
  p = put(p, t->codec, 1);
  p = put(p, f->repeat ? FLAG_REPEAT : 0, 1);
  p = put(p, t->layout.width, 4);
  p = put(p, t->layout.height, 4);
  p = put(p, f->capture, 8);
  p = put(p, f->handoff, 8);
  put(p, encoded, 8);
}

// Blocks while the host runtime is busy, like the writer in Go. Shutting the socket down ends it. No part is empty.
static int send_all(int fd, struct iovec *parts, int n) {
  struct msghdr m = {.msg_iov = parts, .msg_iovlen = n};
  while (m.msg_iovlen > 0) {
    ssize_t sent = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) {
      struct pollfd p = {.fd = fd, .events = POLLOUT};
      poll(&p, 1, -1);
      continue;
    }
    if (sent < 0 && errno != EINTR)
      return errno;
    for (; sent > 0 && m.msg_iovlen > 0; m.msg_iov++, m.msg_iovlen--) {
      gsize part = MIN((gsize)sent, m.msg_iov->iov_len);
      m.msg_iov->iov_base = (guint8 *)m.msg_iov->iov_base + part;
      m.msg_iov->iov_len -= part;
      sent -= part;
      if (m.msg_iov->iov_len > 0)
        break;
    }
  }
  return 0;
}

static int send_unit(int fd, guint8 *header, GstBuffer *unit) {
  GstMapInfo map;
  if (!gst_buffer_map(unit, &map, GST_MAP_READ))
    return EIO;
  struct iovec parts[2] = {{header, HEADER_SIZE}, {map.data, map.size}};
  int error = send_all(fd, parts, 2);
  if (error != 0)
    shutdown(fd, SHUT_RDWR); // half a unit may be out: nothing can follow it
  gst_buffer_unmap(unit, &map);
  return error;
}

static gboolean ordinary(GstBuffer *unit) {
  return GST_BUFFER_FLAG_IS_SET(unit, GST_BUFFER_FLAG_DELTA_UNIT) && !GST_BUFFER_FLAG_IS_SET(unit, GST_BUFFER_FLAG_HEADER) &&
         gst_buffer_get_size(unit) > 0 && gst_buffer_get_size(unit) <= MAX_UNIT;
}

static GstPadProbeReturn on_unit(GstPad *pad, GstPadProbeInfo *info, gpointer lane) {
  (void)pad;
  wavry_lane *l = lane;
  GstBuffer *unit = GST_PAD_PROBE_INFO_BUFFER(info);
  guint8 header[HEADER_SIZE];
  refuse r = {0};
  g_mutex_lock(&l->lock);
  wavry_turn *t = &l->turn;
  if (!l->lent || t->flight.picture == NULL || l->done.writing || !ordinary(unit)) {
    g_mutex_unlock(&l->lock);
    return GST_PAD_PROBE_OK;
  }
  gint64 at = wavry_now();
  l->took = at - t->sent;
  put_header(header, gst_buffer_get_size(unit), t->next++, &l->terms, &t->flight, at);
  int units = l->terms.units;
  if (t->waiting.picture == NULL && (l->terms.buffers == NULL || wavry_buffers_spare(l->terms.buffers))) {
    t->last = t->flight;
    t->flight.picture = NULL;
  }
  discard(&r, &t->flight);
  l->done.writing = TRUE;
  g_mutex_unlock(&l->lock);
  give_back(&r);

  int error = send_unit(units, header, unit);

  g_mutex_lock(&l->lock);
  l->done.writing = FALSE;
  g_cond_broadcast(&l->written);
  if (error == 0) {
    l->done.out++;
  } else {
    l->done.error = error;
    l->lent = FALSE;
  }
  if (!l->lent)
    wavry_wake(l->wake);
  departure d = begin(l);
  g_mutex_unlock(&l->lock);
  depart(d, FALSE); // this thread is within the chain
  return GST_PAD_PROBE_DROP;
}

void wavry_lane_carry_units(wavry_lane *l, GstElement *appsink) { wavry_probe(appsink, on_unit, l); }
