// One process that encodes pictures with the chain it is given, as gst-launch-1.0 would, at the least cost: the thread that has the
// pictures pushes them into the chain itself. It prints a line of CPU time per picture and a line per latency, all in nanoseconds.
//
//   one CHAIN WIDTH HEIGHT RATE PICTURES WARM-UP FILE...
//
// RATE is in pictures per 1000 seconds. A latency is from before the push until the unit is at the sink; the first WARM-UP pictures
// do not count. The files are raw BGRx pictures; they are mapped and never copied.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <gst/gst.h>

enum { MAX_PICTURES = 100000 };

static guint64 pushed[MAX_PICTURES], latency[MAX_PICTURES];
static guint units;

static guint64 now(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return (guint64)t.tv_sec * GST_SECOND + t.tv_nsec;
}

static void on_unit(GstElement *sink, GstBuffer *unit, GstPad *pad, gpointer data) {
  latency[units] = now(CLOCK_MONOTONIC) - pushed[units];
  g_atomic_int_inc(&units);
}

static void die(const char *what) {
  fprintf(stderr, "one: %s\n", what);
  exit(1);
}

static GstBuffer *picture(const char *path, gsize size) {
  int fd = open(path, O_RDONLY);
  void *data = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (fd < 0 || data == MAP_FAILED)
    die("cannot map a picture");
  return gst_buffer_new_wrapped_full(GST_MEMORY_FLAG_READONLY, data, size, 0, size, NULL, NULL);
}

int main(int argc, char **argv) {
  gst_init(NULL, NULL);
  if (argc < 8 || atoi(argv[5]) > MAX_PICTURES)
    die("usage: one CHAIN WIDTH HEIGHT RATE PICTURES WARM-UP FILE...");
  guint width = atoi(argv[2]), height = atoi(argv[3]), rate = atoi(argv[4]), total = atoi(argv[5]), warm = atoi(argv[6]);
  guint files = argc - 7;
  GstBuffer *pictures[files];
  for (guint i = 0; i < files; i++)
    pictures[i] = picture(argv[7 + i], (gsize)4 * width * height);

  GstElement *chain = gst_parse_bin_from_description(argv[1], TRUE, NULL);
  GstElement *sink = gst_element_factory_make("fakesink", NULL);
  GstElement *pipeline = gst_pipeline_new(NULL);
  if (chain == NULL)
    die("cannot build the chain");
  g_object_set(sink, "sync", FALSE, "async", FALSE, "signal-handoffs", TRUE, NULL);
  g_signal_connect(sink, "handoff", G_CALLBACK(on_unit), NULL);
  gst_bin_add_many(GST_BIN(pipeline), chain, sink, NULL);
  gst_element_link(chain, sink);
  GstPad *source = gst_pad_new("src", GST_PAD_SRC);
  gst_pad_set_active(source, TRUE);
  gst_pad_link(source, gst_element_get_static_pad(chain, "sink"));
  gst_element_set_state(pipeline, GST_STATE_PLAYING);

  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_pad_push_event(source, gst_event_new_stream_start("one"));
  gst_pad_push_event(source, gst_event_new_caps(gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, "BGRx",
      "width", G_TYPE_INT, width, "height", G_TYPE_INT, height, "framerate", GST_TYPE_FRACTION, rate, 1000,
      "colorimetry", G_TYPE_STRING, "sRGB", "interlace-mode", G_TYPE_STRING, "progressive", NULL)));
  gst_pad_push_event(source, gst_event_new_segment(&segment));

  guint64 interval = GST_SECOND * 1000 / rate, at = now(CLOCK_MONOTONIC), cpu = 0;
  for (guint i = 0; i < total; i++, at += interval) {
    struct timespec until = {at / GST_SECOND, at % GST_SECOND};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    if (i == warm)
      cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    GstBuffer *b = gst_buffer_copy(pictures[i % files]);
    GST_BUFFER_PTS(b) = i * interval;
    GST_BUFFER_DURATION(b) = interval;
    pushed[i] = now(CLOCK_MONOTONIC);
    if (gst_pad_push(source, b) != GST_FLOW_OK)
      die("the chain takes no more pictures");
  }
  cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
  if (g_atomic_int_get(&units) != total)
    die("a picture did not become a unit at once");
  printf("%" G_GUINT64_FORMAT "\n", cpu / (total - warm));
  for (guint i = warm; i < total; i++)
    printf("%" G_GUINT64_FORMAT "\n", latency[i]);
  return 0;
}
