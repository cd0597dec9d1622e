#include "pictures.h"

#include <dlfcn.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <gst/allocators/gstdmabuf.h>
#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>

// ---- pictures

static gint64 now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (gint64)t.tv_sec * GST_SECOND + t.tv_nsec;
}

void wavry_describe(GstBuffer *b, const wavry_layout *l) {
  gsize offset[GST_VIDEO_MAX_PLANES] = {0};
  gint stride[GST_VIDEO_MAX_PLANES] = {0};
  for (guint i = 0; i < l->planes && i < GST_VIDEO_MAX_PLANES; i++) {
    offset[i] = l->offset[i];
    stride[i] = l->stride[i];
  }
  gst_buffer_add_video_meta_full(b, GST_VIDEO_FRAME_FLAG_NONE, (GstVideoFormat)l->format, l->width, l->height, l->planes, offset,
                                 stride);
}

// A shallow copy goes into the pipeline, so that the picture itself can be sent again with another time.
static GstBuffer *timed(GstBuffer *picture, gint64 pts, gint64 duration) {
  GstBuffer *b = gst_buffer_copy(picture);
  GST_BUFFER_PTS(b) = pts;
  GST_BUFFER_DTS(b) = GST_CLOCK_TIME_NONE;
  GST_BUFFER_DURATION(b) = duration;
  return b;
}

gboolean wavry_push(GstElement *appsrc, GstBuffer *picture, gint64 pts, gint64 duration) {
  return gst_app_src_push_buffer(GST_APP_SRC_CAST(appsrc), timed(picture, pts, duration)) == GST_FLOW_OK;
}

gboolean wavry_push_bytes(GstElement *appsrc, const void *data, gsize size, gint64 pts) {
  GstBuffer *b = gst_buffer_new_memdup(data, size);
  GST_BUFFER_PTS(b) = pts;
  return gst_app_src_push_buffer(GST_APP_SRC_CAST(appsrc), b) == GST_FLOW_OK;
}

void wavry_end(GstElement *appsrc) { gst_app_src_end_of_stream(GST_APP_SRC_CAST(appsrc)); }

gboolean wavry_force_key(GstElement *appsink) {
  GstPad *pad = gst_element_get_static_pad(appsink, "sink");
  gboolean ok = gst_pad_push_event(pad, gst_video_event_new_upstream_force_key_unit(GST_CLOCK_TIME_NONE, TRUE, 0));
  gst_object_unref(pad);
  return ok;
}

// ---- pulling
//
// Go waits for an eventfd in its poller instead of inside a C call: a blocked C call makes the Go runtime's monitor thread poll every
// 20 us, which cost 0.7 ms of CPU per picture (measured 2026-11-23, Go 1.26, 2 cores, 60 pictures per second).

void wavry_wake(int wake) {
  guint64 one = 1;
  if (write(wake, &one, sizeof one) < 0) {
    // EAGAIN: the counter is full, so the reader will wake anyway.
  }
}

static GstFlowReturn on_sample(GstAppSink *sink, gpointer wake) {
  (void)sink;
  wavry_wake(GPOINTER_TO_INT(wake));
  return GST_FLOW_OK;
}

static void on_eos(GstAppSink *sink, gpointer wake) {
  (void)sink;
  wavry_wake(GPOINTER_TO_INT(wake));
}

void wavry_wake_on_sample(GstElement *appsink, int wake) {
  GstAppSinkCallbacks callbacks = {.eos = on_eos, .new_sample = on_sample};
  gst_app_sink_set_callbacks(GST_APP_SINK_CAST(appsink), &callbacks, GINT_TO_POINTER(wake), NULL);
}

gboolean wavry_pull_unit(GstElement *appsink, wavry_unit *out) {
  GstSample *s = gst_app_sink_try_pull_sample(GST_APP_SINK_CAST(appsink), 0);
  if (s == NULL)
    return FALSE;
  out->buffer = gst_sample_get_buffer(s);
  if (out->buffer == NULL || !gst_buffer_map(out->buffer, &out->map, GST_MAP_READ)) {
    gst_sample_unref(s);
    return FALSE;
  }
  out->sample = s;
  out->key = !GST_BUFFER_FLAG_IS_SET(out->buffer, GST_BUFFER_FLAG_DELTA_UNIT);
  out->running = -1;
  if (GST_BUFFER_PTS_IS_VALID(out->buffer)) // encoders shift time to have room for negative decode times; the segment tells
    out->running = gst_segment_to_running_time(gst_sample_get_segment(s), GST_FORMAT_TIME, GST_BUFFER_PTS(out->buffer));
  return TRUE;
}

void wavry_unit_done(wavry_unit *unit) {
  gst_buffer_unmap(unit->buffer, &unit->map);
  gst_sample_unref(unit->sample);
}

// From GStreamer 1.24 on the caps of a DMA-BUF name its DRM format and modifier instead of a video format.
static gboolean info_of(GstCaps *caps, GstVideoInfo *info, wavry_raw *out) {
  out->fourcc = 0;
  out->modifier = 0;
#if GST_CHECK_VERSION(1, 24, 0)
  if (gst_video_is_dma_drm_caps(caps)) {
    GstVideoInfoDmaDrm drm;
    if (!gst_video_info_dma_drm_from_caps(&drm, caps))
      return FALSE;
    *info = drm.vinfo;
    out->fourcc = drm.drm_fourcc;
    out->modifier = drm.drm_modifier;
    return TRUE;
  }
#endif
  return gst_video_info_from_caps(info, caps);
}

static void layout_of(const GstVideoInfo *info, GstBuffer *original, wavry_layout *l) {
  GstVideoMeta *m = gst_buffer_get_video_meta(original);
  l->format = GST_VIDEO_INFO_FORMAT(info);
  l->width = GST_VIDEO_INFO_WIDTH(info);
  l->height = GST_VIDEO_INFO_HEIGHT(info);
  l->planes = m ? m->n_planes : GST_VIDEO_INFO_N_PLANES(info);
  for (guint i = 0; i < l->planes && i < GST_VIDEO_MAX_PLANES; i++) {
    l->offset[i] = m ? m->offset[i] : GST_VIDEO_INFO_PLANE_OFFSET(info, i);
    l->stride[i] = m ? m->stride[i] : GST_VIDEO_INFO_PLANE_STRIDE(info, i);
  }
}

// Compositors stream a window as part of a larger buffer. For packed pixels the part is only another offset and size.
static void crop(GstBuffer *original, wavry_layout *l) {
  GstVideoCropMeta *c = gst_buffer_get_video_crop_meta(original);
  if (c == NULL || l->planes != 1 || c->width == 0 || c->height == 0)
    return;
  if (c->x > l->width || c->y > l->height || c->width > l->width - c->x || c->height > l->height - c->y)
    return;
  l->offset[0] += (gsize)c->y * l->stride[0] + (gsize)c->x * 4; // all packed formats of ours have four bytes
  l->width = c->width;
  l->height = c->height;
}

// The picture is a new buffer over the memories of the original, which lives as long as the picture or any copy of it.
static GstBuffer *share(GstBuffer *original, const wavry_layout *l) {
  GstBuffer *b = gst_buffer_new();
  for (guint i = 0; i < gst_buffer_n_memory(original); i++)
    gst_buffer_append_memory(b, gst_buffer_get_memory(original, i));
  wavry_describe(b, l);
  gst_buffer_add_parent_buffer_meta(b, original);
  return b;
}

static gboolean look(GstCaps *caps, GstBuffer *original, wavry_raw *out) {
  GstVideoInfo info;
  if (caps == NULL || gst_buffer_n_memory(original) == 0 || !info_of(caps, &info, out))
    return FALSE;
  layout_of(&info, original, &out->layout);
  out->format = gst_video_format_to_string(GST_VIDEO_INFO_FORMAT(&info));
  out->dmabuf = gst_is_dmabuf_memory(gst_buffer_peek_memory(original, 0));
  if (!out->dmabuf)
    crop(original, &out->layout);
  // An odd edge cannot be coded in 4:2:0: the last column or row stays out, without touching a byte.
  out->layout.width &= ~1u;
  out->layout.height &= ~1u;
  return TRUE;
}

// Makes a picture of what comes to a sink's pad.
void wavry_look_at_raw(GstPad *pad, GstBuffer *original, wavry_raw *out) {
  memset(out, 0, sizeof *out);
  out->size = gst_buffer_get_size(original);
  out->arrived = now();
  out->taken = -1;
  if (GST_BUFFER_PTS_IS_VALID(original))
    out->taken = GST_BUFFER_PTS(original) + gst_element_get_base_time(GST_ELEMENT_CAST(GST_PAD_PARENT(pad)));
  GstCaps *caps = gst_pad_get_current_caps(pad);
  if (look(caps, original, out))
    out->buffer = share(original, &out->layout);
  if (caps != NULL)
    gst_caps_unref(caps);
}

gboolean wavry_is_eos(GstElement *appsink) { return gst_app_sink_is_eos(GST_APP_SINK_CAST(appsink)); }

// Calls back for each buffer that comes to a sink.
void wavry_probe(GstElement *sink, GstPadProbeCallback callback, gpointer data) {
  GstPad *pad = gst_element_get_static_pad(sink, "sink");
  gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, callback, data, NULL);
  gst_object_unref(pad);
}

// ---- looking at a picture

// Copies `bytes` bytes of each point of a columns x rows grid. Memory that is mapped already stays mapped once; nothing else of the
// picture is read.
guint wavry_sample(GstBuffer *picture, guint plane, guint bytes, guint columns, guint rows, guint8 *out) {
  GstVideoMeta *m = gst_buffer_get_video_meta(picture);
  guint index, length;
  gsize skip;
  if (m == NULL || plane >= m->n_planes || m->stride[plane] <= 0)
    return 0;
  if (!gst_buffer_find_memory(picture, m->offset[plane], 1, &index, &length, &skip))
    return 0;
  GstMapInfo map;
  GstMemory *memory = gst_buffer_peek_memory(picture, index);
  if (!gst_memory_map(memory, &map, GST_MAP_READ))
    return 0;
  guint n = 0;
  for (guint r = 0; r < rows; r++) {
    guint y = (2 * r + 1) * m->height / (2 * rows);
    for (guint c = 0; c < columns; c++) {
      guint x = (2 * c + 1) * m->width / (2 * columns);
      gsize at = skip + (gsize)y * m->stride[plane] + (gsize)x * bytes;
      if (at + bytes > map.size)
        continue;
      memcpy(out + (gsize)n * bytes, map.data + at, bytes);
      n++;
    }
  }
  gst_memory_unmap(memory, &map);
  return n;
}

// ---- bus

static void fault_clear(wavry_fault *f) {
  g_free(f->source);
  g_free(f->text);
  g_free(f->debug);
}

static void fault_destroy(gpointer data) {
  fault_clear(data);
  g_free(data);
}

static void note_fault(GstObject *pipeline, GstMessage *message) {
  GError *error = NULL;
  wavry_fault *f = g_new0(wavry_fault, 1);
  gst_message_parse_error(message, &error, &f->debug);
  f->source = g_strdup(GST_MESSAGE_SRC_NAME(message));
  f->text = g_strdup(error ? error->message : "unknown error");
  g_clear_error(&error);
  GST_OBJECT_LOCK(pipeline);
  gboolean first = g_object_get_data(G_OBJECT(pipeline), "wavry-fault") == NULL;
  if (first)
    g_object_set_data_full(G_OBJECT(pipeline), "wavry-fault", f, fault_destroy);
  GST_OBJECT_UNLOCK(pipeline);
  if (!first)
    fault_destroy(f);
}

// Keeps the first error and drops everything, so that the bus never holds a message and needs no reader.
static GstBusSyncReply on_message(GstBus *bus, GstMessage *message, gpointer pipeline) {
  (void)bus;
  if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
    note_fault(GST_OBJECT_CAST(pipeline), message);
    wavry_wake(GPOINTER_TO_INT(g_object_get_data(G_OBJECT(pipeline), "wavry-wake")));
  }
  gst_message_unref(message);
  return GST_BUS_DROP;
}

void wavry_watch_bus(GstElement *pipeline, int wake) {
  g_object_set_data(G_OBJECT(pipeline), "wavry-wake", GINT_TO_POINTER(wake));
  GstBus *bus = gst_element_get_bus(pipeline);
  gst_bus_set_sync_handler(bus, on_message, pipeline, NULL); // the bus dies with its pipeline
  gst_object_unref(bus);
}

gboolean wavry_fault_of(GstElement *pipeline, wavry_fault *out) {
  GST_OBJECT_LOCK(pipeline);
  wavry_fault *f = g_object_get_data(G_OBJECT(pipeline), "wavry-fault");
  if (f != NULL) {
    out->source = g_strdup(f->source);
    out->text = g_strdup(f->text);
    out->debug = g_strdup(f->debug);
  }
  GST_OBJECT_UNLOCK(pipeline);
  return f != NULL;
}

void wavry_fault_free(wavry_fault *fault) { fault_clear(fault); }

gboolean wavry_wait_state(GstElement *pipeline, guint64 timeout) {
  GstStateChangeReturn r = gst_element_get_state(pipeline, NULL, NULL, timeout);
  return r == GST_STATE_CHANGE_SUCCESS || r == GST_STATE_CHANGE_NO_PREROLL;
}

// Buffer times become CLOCK_MONOTONIC: running time plus base time.
void wavry_use_monotonic(GstElement *pipeline) {
  GstClock *clock = gst_system_clock_obtain();
  gst_pipeline_use_clock(GST_PIPELINE(pipeline), clock);
  gst_object_unref(clock);
}

// ---- properties and plugins

gboolean wavry_has_property(GObject *object, const char *name) {
  return g_object_class_find_property(G_OBJECT_GET_CLASS(object), name) != NULL;
}

gboolean wavry_set(GObject *object, const char *name, const char *value) {
  if (!wavry_has_property(object, name))
    return FALSE;
  gst_util_set_object_arg(object, name, value);
  return TRUE;
}

// The value as text, NULL when there is no such property; g_free it.
gchar *wavry_get(GObject *object, const char *name) {
  GParamSpec *spec = g_object_class_find_property(G_OBJECT_GET_CLASS(object), name);
  if (spec == NULL || !(spec->flags & G_PARAM_READABLE))
    return NULL;
  GValue v = G_VALUE_INIT;
  g_value_init(&v, spec->value_type);
  g_object_get_property(object, name, &v);
  gchar *text = gst_value_serialize(&v);
  g_value_unset(&v);
  return text;
}

gint wavry_plugin_features(const char *plugin) {
  GstRegistry *r = gst_registry_get();
  GstPlugin *p = gst_registry_find_plugin(r, plugin);
  if (p == NULL)
    return -1;
  GList *list = gst_registry_get_feature_list_by_plugin(r, plugin);
  gint n = g_list_length(list);
  gst_plugin_feature_list_free(list);
  gst_object_unref(p);
  return n;
}

// Why a shared library cannot be loaded, NULL when it can; g_free it.
gchar *wavry_library_error(const char *name) {
  void *library = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
  if (library == NULL)
    return g_strdup(dlerror());
  dlclose(library);
  return NULL;
}

// The caps that a pad has now, NULL when none; g_free it.
gchar *wavry_caps_of_pad(GstElement *element, const char *name) {
  GstPad *pad = gst_element_get_static_pad(element, name);
  if (pad == NULL)
    return NULL;
  GstCaps *caps = gst_pad_get_current_caps(pad);
  gchar *text = caps ? gst_caps_to_string(caps) : NULL;
  if (caps)
    gst_caps_unref(caps);
  gst_object_unref(pad);
  return text;
}
