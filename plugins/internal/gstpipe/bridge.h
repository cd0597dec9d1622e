// The part of GStreamer that the Go binding lacks or makes too dear per frame: descriptors as memory, pictures with their
// strides, pushing and pulling without a wrapper object per buffer, and a bus that holds nothing.
#ifndef WAVRY_GSTPIPE_BRIDGE_H
#define WAVRY_GSTPIPE_BRIDGE_H

#include <gst/gst.h>
#include <gst/video/video.h>

// What is wrong with a pipeline, first cause first.
typedef struct {
  gchar *source;
  gchar *text;
  gchar *debug;
} wavry_fault;

typedef struct {
  gint format; // GstVideoFormat
  guint width, height, planes;
  gsize offset[GST_VIDEO_MAX_PLANES];
  gint stride[GST_VIDEO_MAX_PLANES];
} wavry_layout;

// One encoded unit, mapped until wavry_unit_done.
typedef struct {
  GstSample *sample;
  GstBuffer *buffer;
  GstMapInfo map;
  gint64 running; // ns, -1 when the buffer has no time
  gboolean key;
} wavry_unit;

// One raw picture of somebody else's buffer.
typedef struct {
  GstBuffer *buffer; // owned; carries the original with it
  wavry_layout layout;
  const gchar *format;
  guint32 fourcc; // DRM format of a DMA-BUF whose caps name it, else 0
  guint64 modifier;
  gboolean dmabuf;
  gsize size; // bytes of the original
  gint64 taken; // CLOCK_MONOTONIC ns by the buffer's own time, -1 when it has none
  gint64 arrived; // CLOCK_MONOTONIC ns
} wavry_raw;

gboolean wavry_push(GstElement *appsrc, GstBuffer *picture, gint64 pts, gint64 duration);
gboolean wavry_push_bytes(GstElement *appsrc, const void *data, gsize size, gint64 pts);
void wavry_end(GstElement *appsrc);
gboolean wavry_force_key(GstElement *appsink);
void wavry_wake_on_sample(GstElement *appsink, int wake);
gboolean wavry_pull_unit(GstElement *appsink, wavry_unit *out);
void wavry_unit_done(wavry_unit *unit);
gboolean wavry_is_eos(GstElement *appsink);
guint wavry_sample(GstBuffer *picture, guint plane, guint bytes, guint columns, guint rows, guint8 *out);

void wavry_wake(int wake);
void wavry_watch_bus(GstElement *pipeline, int wake);
gboolean wavry_fault_of(GstElement *pipeline, wavry_fault *out);
void wavry_fault_free(wavry_fault *fault);
gboolean wavry_wait_state(GstElement *pipeline, guint64 timeout);
void wavry_use_monotonic(GstElement *pipeline);

gboolean wavry_has_property(GObject *object, const char *name);
gboolean wavry_set(GObject *object, const char *name, const char *value);
gchar *wavry_get(GObject *object, const char *name);
gint wavry_plugin_features(const char *plugin);
gchar *wavry_library_error(const char *name);
gchar *wavry_caps_of_pad(GstElement *element, const char *pad);

#endif
