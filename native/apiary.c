// apiary's addon: only what JavaScript and FFI cannot do. Validation and errors are in src/kvm/native.ts.
//
// - KVM_RUN that a signal ends without a lost wake-up. The kick signal's handler sets the thread's `kicked` and, when the
//   thread is inside run(), immediate_exit of that vCPU. run() publishes the vCPU first and looks at `kicked` second, so
//   a kick is seen by one or the other wherever it lands. KVM_RUN with immediate_exit still completes the I/O of the
//   previous exit, then answers EINTR.
// - one POSIX timer a thread, which raises the same signal on that thread.
// - kvm_run mappings as ArrayBuffers, unmapped when collected or when told to.
// - ioctl() and close(), so that neither a start nor a worker thread needs an FFI: koffi takes 7-13 ms to load, and never gives
//   a thread's memory back.
//
// One struct thread for each environment, freed with it, also after worker.terminate(). The library is never unloaded
// (-z nodelete): the signal's handler belongs to the process.
//
// One binary for every Linux on x86-64: Node-API only, and linked with no libc (-nostdlib), so that the few functions it
// calls are those of the process, glibc's or musl's, of any version. Hence no ELF TLS (musl does not load initial-exec, and
// glibc may allocate for the rest, which a signal handler must not) and timers by system call (librt's, once).
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <linux/kvm.h>
#include <node_api.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

typedef struct kvm_run kvm_run;

// Shared by the handle (struct thread's list) and the buffer's finalizer, both of this thread; freed when neither is left.
typedef struct {
  int fd, owners;
  size_t size;
  kvm_run* run;  // NULL: unmapped
} mapping;

typedef struct thread {
  kvm_run* volatile current_run;
  volatile sig_atomic_t kicked;
  pid_t tid;
  struct {
    uint32_t handle;
    int32_t status;
  } control;
  uint32_t mapping_count, mapping_room;
  mapping** mappings;
  int timer;  // the kernel's number
  bool timer_made, armed;
  struct thread* next;  // in `threads`
} thread;

static pthread_key_t self;           // this thread's struct thread; reading it allocates nothing
static atomic_bool stopping;         // the process is exiting: every run() answers EINTR
static pthread_mutex_t threads_lock; // zeros are an unlocked mutex in glibc and musl; guards `threads`
static thread* threads;              // those with an environment
static pthread_once_t once;          // zeros, too

// Nothing else uses it on Linux. Not a real-time signal: of those each sent one takes room in the user's queue (ulimit -i), and
// while a neighbour has filled that, tgkill() answers EAGAIN and the target runs on. One of the first 31 always gets through.
#define KICK_SIGNAL SIGSTKFLT

static void on_kick(int number) {
  (void)number;
  thread* me = pthread_getspecific(self);
  if (me == NULL) return;
  me->kicked = 1;
  atomic_signal_fence(memory_order_seq_cst);
  kvm_run* run = me->current_run;
  if (run != NULL) run->immediate_exit = 1;
}

static void install(void) {
  pthread_key_create(&self, NULL);
  struct sigaction action = {0};
  action.sa_handler = on_kick;
  action.sa_flags = SA_RESTART;  // KVM_RUN is never restarted; everything else on the thread should be
  sigaction(KICK_SIGNAL, &action, NULL);
}

// False when the thread is gone.
static bool kick(pid_t tid) { return syscall(SYS_tgkill, getpid(), tid, KICK_SIGNAL) == 0; }

static void unmap(mapping* each) {
  if (each->run != NULL) munmap(each->run, each->size);
  each->run = NULL;
}

static void release(mapping* each) {
  if (--each->owners > 0) return;
  unmap(each);
  free(each);
}

static napi_value number(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

// The first `count` arguments, as numbers where they are numbers, else 0: src/kvm/native.ts has checked them.
static void arguments(napi_env env, napi_callback_info info, size_t count, napi_value* values, double* numbers) {
  for (size_t index = 0; index < count; index++) numbers[index] = 0;
  size_t given = count;
  napi_get_cb_info(env, info, &given, values, NULL, NULL);  // sets it to how many there are, which may be more
  for (size_t index = 0; index < count && index < given; index++) napi_get_value_double(env, values[index], &numbers[index]);
}

// run(): KVM_RUN on control[0], a handle; control[1] = 0 or -errno. A kick is used up only by an -EINTR that the caller
// did not ask for with immediate_exit: one that meets an exit on its way out ends the next run at once, so the caller
// need look at its clock only then. The one hot call: no argument and no result, each of which costs calls into Node.
static napi_value run_vcpu(napi_env env, napi_callback_info info) {
  (void)env, (void)info;
  thread* me = pthread_getspecific(self);
  uint32_t handle = me->control.handle;
  int32_t status = -EBADF;
  if (handle < me->mapping_count && me->mappings[handle]->run != NULL) {
    kvm_run* run = me->mappings[handle]->run;
    bool completing = run->immediate_exit != 0;
    me->current_run = run;
    atomic_signal_fence(memory_order_seq_cst);  // publish before looking at `kicked`
    if (me->kicked || atomic_load(&stopping)) run->immediate_exit = 1;
    status = ioctl(me->mappings[handle]->fd, KVM_RUN, 0) == 0 ? 0 : -errno;
    me->current_run = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    run->immediate_exit = 0;
    if (status != 0 && !completing) me->kicked = 0;
  }
  me->control.status = status;
  return NULL;
}

static void buffer_collected(napi_env env, void* data, void* hint) {
  (void)env, (void)data;
  unmap(hint);
  release(hint);
}

// mapRun(vcpuFd, size): { handle, buffer } or -errno. Handles are never reused: a stale one answers -EBADF.
static napi_value map_run(napi_env env, napi_callback_info info) {
  napi_value values[2];
  double numbers[2];
  arguments(env, info, 2, values, numbers);
  thread* me = pthread_getspecific(self);
  if (me->mapping_count == me->mapping_room) {
    uint32_t room = me->mapping_room == 0 ? 16 : 2 * me->mapping_room;
    mapping** larger = realloc(me->mappings, room * sizeof *larger);
    if (larger == NULL) return number(env, -ENOMEM);
    me->mappings = larger;
    me->mapping_room = room;
  }
  mapping* made = malloc(sizeof *made);
  if (made == NULL) return number(env, -ENOMEM);
  *made = (mapping){.fd = (int)numbers[0], .owners = 1, .size = (size_t)numbers[1]};
  void* address = mmap(NULL, made->size, PROT_READ | PROT_WRITE, MAP_SHARED, made->fd, 0);
  if (address == MAP_FAILED) {
    int error = errno;
    free(made);
    return number(env, -error);
  }
  made->run = address;
  napi_value buffer, result;
  if (napi_create_external_arraybuffer(env, address, made->size, buffer_collected, made, &buffer) != napi_ok) {
    release(made);
    return number(env, -ENOMEM);
  }
  made->owners = 2;
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "handle", number(env, me->mapping_count));
  napi_set_named_property(env, result, "buffer", buffer);
  me->mappings[me->mapping_count++] = made;
  return result;
}

// unmapRun(handle, buffer): the buffer is detached (length 0) before its memory goes away. Twice is harmless.
static napi_value unmap_run(napi_env env, napi_callback_info info) {
  napi_value values[2];
  double numbers[2];
  arguments(env, info, 2, values, numbers);
  thread* me = pthread_getspecific(self);
  bool detached = true;
  if (numbers[0] >= me->mapping_count || napi_is_detached_arraybuffer(env, values[1], &detached) != napi_ok || detached) {
    return NULL;
  }
  mapping* each = me->mappings[(uint32_t)numbers[0]];
  if (napi_detach_arraybuffer(env, values[1]) == napi_ok) unmap(each);
  return NULL;
}

static napi_value thread_id(napi_env env, napi_callback_info info) {
  (void)info;
  thread* me = pthread_getspecific(self);
  return number(env, me->tid);
}

static napi_value kick_thread(napi_env env, napi_callback_info info) {
  napi_value values[1], result;
  double numbers[1];
  arguments(env, info, 1, values, numbers);
  napi_get_boolean(env, kick((pid_t)numbers[0]), &result);
  return result;
}

// Ends every run() of the process, now and from now on, so that Node can join its workers at exit.
static napi_value stop_all(napi_env env, napi_callback_info info) {
  (void)env, (void)info;
  atomic_store(&stopping, true);
  pthread_mutex_lock(&threads_lock);
  for (thread* each = threads; each != NULL; each = each->next) kick(each->tid);
  pthread_mutex_unlock(&threads_lock);
  return NULL;
}

// armTimer(deadlineNanos): CLOCK_MONOTONIC, absolute; a deadline in the past fires at once; Infinity disarms.
// 0 or -errno.
static napi_value arm_timer(napi_env env, napi_callback_info info) {
  napi_value values[1];
  double deadline[1];
  arguments(env, info, 1, values, deadline);
  thread* me = pthread_getspecific(self);
  bool arm = deadline[0] < 9e18;
  if (!arm && !me->armed) return number(env, 0);
  if (!me->timer_made) {
    struct sigevent event = {0};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = KICK_SIGNAL;
    event.sigev_notify_thread_id = me->tid;
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &me->timer) != 0) return number(env, -errno);
    me->timer_made = true;
  }
  struct itimerspec spec = {0};
  if (arm) {
    double nanos = deadline[0] < 1 ? 1 : deadline[0];  // all zero would disarm
    spec.it_value.tv_sec = (time_t)(nanos / 1e9);
    spec.it_value.tv_nsec = (long)(nanos - (double)spec.it_value.tv_sec * 1e9);
  }
  me->armed = arm;
  return number(env, syscall(SYS_timer_settime, me->timer, TIMER_ABSTIME, &spec, NULL) == 0 ? 0 : -errno);
}

// The first byte of a typed array or a DataView. False for anything else.
static bool view_of(napi_env env, napi_value value, void** memory) {
  bool is_view = false;
  *memory = NULL;
  if (napi_is_typedarray(env, value, &is_view) == napi_ok && is_view) {
    napi_get_typedarray_info(env, value, NULL, NULL, memory, NULL, NULL);
  } else if (napi_is_dataview(env, value, &is_view) == napi_ok && is_view) {
    napi_get_dataview_info(env, value, NULL, memory, NULL, NULL);
  }
  return is_view;
}

// ioctl(fd, request, argument): its result, or -errno. The argument is a number, or memory that the request reads or writes.
static napi_value call_ioctl(napi_env env, napi_callback_info info) {
  napi_value values[3];
  double numbers[3];
  arguments(env, info, 3, values, numbers);
  void* memory;
  bool is_view = view_of(env, values[2], &memory);
  if (is_view && memory == NULL) return number(env, -EFAULT);
  unsigned long request = (unsigned long)numbers[1];
  int result = is_view ? ioctl((int)numbers[0], request, memory) : ioctl((int)numbers[0], request, (unsigned long)numbers[2]);
  return number(env, result < 0 ? -errno : result);
}

// discard(bytes): the pages of a Uint8Array's memory go back to the system and read as zeros. It begins and ends on a page.
static napi_value call_discard(napi_env env, napi_callback_info info) {
  napi_value values[1];
  double unused[1];
  arguments(env, info, 1, values, unused);
  void* memory = NULL;
  size_t length = 0;
  if (napi_get_typedarray_info(env, values[0], NULL, &length, &memory, NULL, NULL) != napi_ok) return number(env, -EFAULT);
  return number(env, madvise(memory, length, MADV_DONTNEED) == 0 ? 0 : -errno);
}

// ioctlWithPointers(fd, request, argument, at, to, ...): as ioctl() with memory, in which the 64 bits at byte `at` point to the
// first byte of the view `to` while the call lasts. Up to MAX_POINTERS of them; src/kvm/libc.ts looks at their places.
static napi_value call_ioctl_with_pointers(napi_env env, napi_callback_info info) {
  enum { FIRST = 3, MAX_POINTERS = 16, COUNT = FIRST + 2 * MAX_POINTERS };
  napi_value values[COUNT];
  double numbers[COUNT];
  arguments(env, info, COUNT, values, numbers);
  void *memory, *to;
  if (!view_of(env, values[2], &memory) || memory == NULL) return number(env, -EFAULT);
  int count = 0;
  for (; count < MAX_POINTERS && view_of(env, values[FIRST + 2 * count + 1], &to); count++) {
    memcpy((char*)memory + (size_t)numbers[FIRST + 2 * count], &to, sizeof to);
  }
  int result = ioctl((int)numbers[0], (unsigned long)numbers[1], memory);
  int error = errno;
  while (count-- > 0) memset((char*)memory + (size_t)numbers[FIRST + 2 * count], 0, sizeof to);
  return number(env, result < 0 ? -error : result);
}

// bytesToPage(view, page): how many bytes of it lie before its first whole page.
static napi_value bytes_to_page(napi_env env, napi_callback_info info) {
  napi_value values[2];
  double numbers[2];
  arguments(env, info, 2, values, numbers);
  void* memory;
  view_of(env, values[0], &memory);
  return number(env, (double)(-(uintptr_t)memory & ((uintptr_t)numbers[1] - 1)));
}

// close(fd): 0 or -errno. Node's closeSync warns of descriptors that Node has not opened.
static napi_value call_close(napi_env env, napi_callback_info info) {
  napi_value values[1];
  double fd[1];
  arguments(env, info, 1, values, fd);
  return number(env, close((int)fd[0]) == 0 ? 0 : -errno);
}

static napi_value now_nanos(napi_env env, napi_callback_info info) {
  (void)info;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return number(env, (double)now.tv_sec * 1e9 + (double)now.tv_nsec);
}

static void environment_ends(napi_env env, void* data, void* hint) {
  (void)env, (void)hint;
  thread* me = data;
  pthread_setspecific(self, NULL);  // before it is freed: a signal may come at any time
  if (me->timer_made) syscall(SYS_timer_delete, me->timer);
  pthread_mutex_lock(&threads_lock);
  for (thread** link = &threads; *link != NULL; link = &(*link)->next) {
    if (*link != me) continue;
    *link = me->next;
    break;
  }
  pthread_mutex_unlock(&threads_lock);
  for (uint32_t index = 0; index < me->mapping_count; index++) release(me->mappings[index]);
  free(me->mappings);
  free(me);
}

NAPI_MODULE_INIT() {
  pthread_once(&once, install);
  thread* me = calloc(1, sizeof *me);
  if (me == NULL || pthread_setspecific(self, me) != 0) {
    free(me);
    napi_throw_error(env, NULL, "no memory for the addon");
    return NULL;
  }
  me->tid = (pid_t)syscall(SYS_gettid);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, KICK_SIGNAL);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  pthread_mutex_lock(&threads_lock);
  me->next = threads;
  threads = me;
  pthread_mutex_unlock(&threads_lock);
  napi_set_instance_data(env, me, environment_ends, NULL);

  static const struct {
    const char* name;
    napi_callback function;
  } functions[] = {{"run", run_vcpu},         {"mapRun", map_run},   {"unmapRun", unmap_run},   {"threadId", thread_id},
                   {"kick", kick_thread},     {"stopAll", stop_all}, {"armTimer", arm_timer},   {"nowNanos", now_nanos},
                   {"ioctl", call_ioctl},     {"close", call_close},
                   {"ioctlWithPointers", call_ioctl_with_pointers},               {"bytesToPage", bytes_to_page},
                   {"discard", call_discard}};
  for (size_t index = 0; index < sizeof functions / sizeof *functions; index++) {
    napi_value function;
    napi_create_function(env, functions[index].name, NAPI_AUTO_LENGTH, functions[index].function, NULL, &function);
    napi_set_named_property(env, exports, functions[index].name, function);
  }
  // A buffer of Node's own, which outlives this struct when a script still holds it.
  napi_value control;
  napi_create_external_arraybuffer(env, &me->control, sizeof me->control, NULL, NULL, &control);
  napi_set_named_property(env, exports, "control", control);
  return exports;
}
