#include "pictures.h"

#include <string.h>
#include <sys/socket.h>

#include <gst/allocators/gstdmabuf.h>
#include <gst/allocators/gstfdmemory.h>

enum { MAX_RELEASE = 16 };

struct wavry_buffers {
  GMutex lock;
  guint refs; // the owner's, and one for each picture that is alive
  int socket;
  GPtrArray *known; // registrations
};

// One registration; a later one of the same id is another.
typedef struct {
  wavry_buffers *buffers;
  guint32 id;
  GstMemory *memory;
  wavry_layout layout;
  guint pictures; // alive in it
  gboolean forgot;
  guint8 release[MAX_RELEASE]; // the message that gives it back
  gsize release_size;
} registration;

wavry_buffers *wavry_buffers_new(int socket) {
  wavry_buffers *b = g_new0(wavry_buffers, 1);
  g_mutex_init(&b->lock);
  b->refs = 1;
  b->socket = socket;
  b->known = g_ptr_array_new();
  return b;
}

// Called with the lock, which it releases.
static void unref_unlock(wavry_buffers *b) {
  gboolean last = --b->refs == 0;
  g_mutex_unlock(&b->lock);
  if (last) {
    g_ptr_array_unref(b->known);
    g_mutex_clear(&b->lock);
    g_free(b);
  }
}

static void drop(registration *r) {
  r->forgot = TRUE;
  gst_memory_unref(r->memory); // pictures hold their own reference
  if (r->pictures == 0)
    g_free(r);
}

// Nothing is told to the socket any more. Pictures that are alive stay so.
void wavry_buffers_close(wavry_buffers *b) {
  g_mutex_lock(&b->lock);
  b->socket = -1;
  for (guint i = 0; i < b->known->len; i++)
    drop(b->known->pdata[i]);
  g_ptr_array_set_size(b->known, 0);
  unref_unlock(b);
}

// Never freed, one of each kind.
static GstAllocator *allocator(gboolean dmabuf) {
  static gsize once = 0;
  static GstAllocator *of_shared, *of_dmabuf;
  if (g_once_init_enter(&once)) {
    of_shared = gst_fd_allocator_new();
    of_dmabuf = gst_dmabuf_allocator_new();
    GST_OBJECT_FLAG_SET(of_shared, GST_OBJECT_FLAG_MAY_BE_LEAKED);
    GST_OBJECT_FLAG_SET(of_dmabuf, GST_OBJECT_FLAG_MAY_BE_LEAKED);
    g_once_init_leave(&once, 1);
  }
  return dmabuf ? of_dmabuf : of_shared;
}

// Takes fd over, if it returns TRUE. KEEP_MAPPED: the memory is mapped at most once in its life, however many frames live in it.
gboolean wavry_buffers_add(wavry_buffers *b, guint32 id, int fd, gsize size, gboolean dmabuf, const wavry_layout *layout,
                           const void *release, gsize release_size) {
  if (release_size > MAX_RELEASE)
    return FALSE;
  GstMemory *memory = gst_fd_allocator_alloc(allocator(dmabuf), fd, size, GST_FD_MEMORY_FLAG_KEEP_MAPPED);
  if (memory == NULL)
    return FALSE;
  registration *r = g_new0(registration, 1);
  *r = (registration){.buffers = b, .id = id, .memory = memory, .layout = *layout, .release_size = release_size};
  memcpy(r->release, release, release_size);
  g_mutex_lock(&b->lock);
  g_ptr_array_add(b->known, r);
  g_mutex_unlock(&b->lock);
  return TRUE;
}

static registration *find(wavry_buffers *b, guint32 id) {
  for (guint i = 0; i < b->known->len; i++) {
    registration *r = b->known->pdata[i];
    if (r->id == id)
      return r;
  }
  return NULL;
}

void wavry_buffers_forget(wavry_buffers *b, guint32 id) {
  g_mutex_lock(&b->lock);
  registration *r = find(b, id);
  if (r != NULL) {
    g_ptr_array_remove_fast(b->known, r);
    drop(r);
  }
  g_mutex_unlock(&b->lock);
}

// The last reference to a picture is gone: its buffer goes back. It never waits, since the socket holds far more messages than there
// are buffers; an error is the connection's end, which whoever reads it sees.
static void picture_gone(gpointer data) {
  registration *r = data;
  wavry_buffers *b = r->buffers;
  g_mutex_lock(&b->lock);
  r->pictures--;
  if (r->forgot) {
    if (r->pictures == 0)
      g_free(r);
  } else if (b->socket >= 0) {
    send(b->socket, r->release, r->release_size, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  unref_unlock(b);
}

// The token is an empty buffer that every copy of a picture refers to through GstParentBufferMeta; it dies after the last of them.
static GstBuffer *token_new(registration *r) {
  GstBuffer *token = gst_buffer_new();
  gst_mini_object_set_qdata(GST_MINI_OBJECT(token), g_quark_from_static_string("wavry-token"), r, picture_gone);
  return token;
}

// Makes the picture that lies in the buffer now; NULL when there is no such buffer, or, with a socket, when a picture in it is alive.
GstBuffer *wavry_buffers_take(wavry_buffers *b, guint32 id) {
  g_mutex_lock(&b->lock);
  registration *r = find(b, id);
  if (r == NULL || (r->pictures > 0 && b->socket >= 0)) {
    g_mutex_unlock(&b->lock);
    return NULL;
  }
  r->pictures++;
  b->refs++;
  GstBuffer *picture = gst_buffer_new();
  gst_buffer_append_memory(picture, gst_memory_ref(r->memory));
  g_mutex_unlock(&b->lock); // r stays as long as the token lives
  wavry_describe(picture, &r->layout);
  GstBuffer *token = token_new(r);
  gst_buffer_add_parent_buffer_meta(picture, token);
  gst_buffer_unref(token);
  return picture;
}

// Whether the capturer can draw while one more picture is kept.
gboolean wavry_buffers_spare(wavry_buffers *b) {
  g_mutex_lock(&b->lock);
  guint alive = b->refs - 1, known = b->known->len;
  g_mutex_unlock(&b->lock);
  return known > alive;
}
