#include "pictures.h"

// Pictures on their way to Go. An appsink would keep the one that was pulled last, and its producer waits for it.
struct wavry_inbox {
  GMutex lock;
  GQueue pictures; // of wavry_raw
  int wake;
  gboolean latest; // holds one picture
};

static GstPadProbeReturn on_picture(GstPad *pad, GstPadProbeInfo *info, gpointer data) {
  wavry_inbox *in = data;
  wavry_raw raw;
  wavry_look_at_raw(pad, GST_PAD_PROBE_INFO_BUFFER(info), &raw);
  if (in->latest)
    wavry_inbox_empty(in);
  g_mutex_lock(&in->lock);
  g_queue_push_tail(&in->pictures, g_memdup2(&raw, sizeof raw));
  g_mutex_unlock(&in->lock);
  wavry_wake(in->wake);
  return GST_PAD_PROBE_DROP;
}

wavry_inbox *wavry_inbox_new(GstElement *sink, int wake, gboolean latest) {
  wavry_inbox *in = g_new0(wavry_inbox, 1);
  g_mutex_init(&in->lock);
  g_queue_init(&in->pictures);
  in->wake = wake;
  in->latest = latest;
  wavry_probe(sink, on_picture, in);
  return in;
}

gboolean wavry_inbox_pull(wavry_inbox *in, wavry_raw *out) {
  g_mutex_lock(&in->lock);
  wavry_raw *raw = g_queue_pop_head(&in->pictures);
  g_mutex_unlock(&in->lock);
  if (raw == NULL)
    return FALSE;
  *out = *raw;
  g_free(raw);
  return TRUE;
}

void wavry_inbox_empty(wavry_inbox *in) {
  for (wavry_raw raw; wavry_inbox_pull(in, &raw);)
    if (raw.buffer != NULL)
      gst_buffer_unref(raw.buffer);
}

void wavry_inbox_free(wavry_inbox *in) {
  wavry_inbox_empty(in);
  g_mutex_clear(&in->lock);
  g_free(in);
}
