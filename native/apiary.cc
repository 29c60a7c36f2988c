// apiary's addon: only what JavaScript and FFI cannot do. Validation and errors are in src/kvm/native.ts.
//
// - KVM_RUN that a signal ends without a lost wake-up. The kick signal's handler sets the thread's `kicked` and, when the
//   thread is inside run(), immediate_exit of that vCPU. run() publishes the vCPU first and looks at `kicked` second, so
//   a kick is seen by one or the other wherever it lands. KVM_RUN with immediate_exit still completes the I/O of the
//   previous exit, then answers EINTR.
// - one POSIX timer a thread, which raises the same signal on that thread.
// - kvm_run mappings as ArrayBuffers, unmapped when collected or when told to.
//
// One Apiary instance for each environment (thread); it is destroyed with it, also after worker.terminate(). The library is
// never unloaded (-z nodelete): the signal's handler belongs to the process.
#include <linux/kvm.h>
#include <napi.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace {

// Of the thread: what the handler and run() touch. With glibc, initial-exec: no lazy allocation, so the handler is safe on
// any thread.
#ifdef __GLIBC__
#define THREAD_LOCAL static thread_local __attribute__((tls_model("initial-exec")))
#else
#define THREAD_LOCAL static thread_local
#endif
THREAD_LOCAL kvm_run* volatile current_run = nullptr;
THREAD_LOCAL volatile sig_atomic_t kicked = 0;
THREAD_LOCAL class Apiary* instance = nullptr;

std::atomic<bool> stopping{false};  // the process is exiting: every run() answers EINTR
std::mutex threads_lock;            // guards `threads`
std::set<pid_t> threads;            // those with an Apiary instance

int KickSignal() { return SIGRTMIN + 7; }

void OnKick(int) {
  kicked = 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  kvm_run* run = current_run;
  if (run != nullptr) run->immediate_exit = 1;
}

// A real-time signal is refused with EAGAIN while the user's queue (ulimit -i) is full: it drains as targets run.
bool Kick(pid_t tid) {
  for (int tries = 0; tries < 1000; tries++) {
    if (syscall(SYS_tgkill, getpid(), tid, KickSignal()) == 0) return true;
    if (errno != EAGAIN) return false;
    sched_yield();
  }
  return false;
}

struct Mapping {
  const int fd;
  const size_t size;
  kvm_run* run;
  Mapping(int fd, size_t size, void* address) : fd(fd), size(size), run(static_cast<kvm_run*>(address)) {}
  Mapping(const Mapping&) = delete;
  void Unmap() {
    if (run != nullptr) munmap(run, size);
    run = nullptr;
  }
  ~Mapping() { Unmap(); }
};

class Apiary : public Napi::Addon<Apiary> {
 public:
  Apiary(Napi::Env env, Napi::Object exports) : tid_(static_cast<pid_t>(syscall(SYS_gettid))) {
    static std::once_flag installed;
    std::call_once(installed, [] {
      struct sigaction action = {};
      action.sa_handler = OnKick;
      action.sa_flags = SA_RESTART;  // KVM_RUN is never restarted; everything else on the thread should be
      sigaction(KickSignal(), &action, nullptr);
    });
    kicked = 0;  // allocates this thread's copy before the first signal where TLS is lazy
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, KickSignal());
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    std::lock_guard<std::mutex> guard(threads_lock);
    threads.insert(tid_);
    DefineAddon(exports, {InstanceMethod<&Apiary::MapRun>("mapRun"),
                          InstanceMethod<&Apiary::UnmapRun>("unmapRun"), InstanceMethod<&Apiary::ThreadId>("threadId"),
                          InstanceMethod<&Apiary::KickThread>("kick"), InstanceMethod<&Apiary::StopAll>("stopAll"),
                          InstanceMethod<&Apiary::ArmTimer>("armTimer"), InstanceMethod<&Apiary::NowNanos>("nowNanos")});
    instance = this;
    napi_value run;  // the one hot call: without a wrapper, argument or result, each of which costs calls into Node
    napi_create_function(env, "run", NAPI_AUTO_LENGTH, Run, nullptr, &run);
    exports.Set("run", run);
    exports.Set("control", Napi::ArrayBuffer::New(env, &control_, sizeof control_));
  }

  ~Apiary() {
    if (timer_made_) timer_delete(timer_);
    instance = nullptr;
    std::lock_guard<std::mutex> guard(threads_lock);
    threads.erase(tid_);
  }

 private:
  // run(): KVM_RUN on control[0], a handle; control[1] = 0 or -errno. A kick is used up only by an -EINTR that the caller
  // did not ask for with immediate_exit: one that meets an exit on its way out ends the next run at once, so the caller
  // need look at its clock only then.
  static napi_value Run(napi_env, napi_callback_info) {
    auto& [handle, status] = instance->control_;
    auto& mappings = instance->mappings_;
    status = -EBADF;
    if (handle < mappings.size() && mappings[handle]->run != nullptr) {
      kvm_run* run = mappings[handle]->run;
      bool completing = run->immediate_exit != 0;
      current_run = run;
      std::atomic_signal_fence(std::memory_order_seq_cst);  // publish before looking at `kicked`
      if (kicked || stopping.load(std::memory_order_seq_cst)) run->immediate_exit = 1;
      status = ioctl(mappings[handle]->fd, KVM_RUN, 0) == 0 ? 0 : -errno;
      current_run = nullptr;
      std::atomic_signal_fence(std::memory_order_seq_cst);
      run->immediate_exit = 0;
      if (status != 0 && !completing) kicked = 0;
    }
    return nullptr;
  }

  // mapRun(vcpuFd, size): { handle, buffer } or -errno. Handles are never reused: a stale one answers -EBADF.
  Napi::Value MapRun(const Napi::CallbackInfo& info) {
    int fd = info[0].As<Napi::Number>().Int32Value();
    size_t size = info[1].As<Napi::Number>().Uint32Value();
    void* address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) return Napi::Number::New(info.Env(), -errno);
    auto mapping = std::make_shared<Mapping>(fd, size, address);
    auto buffer = Napi::ArrayBuffer::New(
        info.Env(), address, size,
        [](Napi::BasicEnv, void*, std::shared_ptr<Mapping>* owner) {
          (*owner)->Unmap();
          delete owner;
        },
        new std::shared_ptr<Mapping>(mapping));
    auto result = Napi::Object::New(info.Env());
    result.Set("handle", static_cast<double>(mappings_.size()));
    result.Set("buffer", buffer);
    mappings_.push_back(std::move(mapping));
    return result;
  }

  // unmapRun(handle, buffer): the buffer is detached (length 0) before its memory goes away. Twice is harmless.
  void UnmapRun(const Napi::CallbackInfo& info) {
    uint32_t handle = info[0].As<Napi::Number>().Uint32Value();
    auto buffer = info[1].As<Napi::ArrayBuffer>();
    if (handle >= mappings_.size() || buffer.IsDetached()) return;
    buffer.Detach();
    mappings_[handle]->Unmap();
  }

  Napi::Value ThreadId(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), tid_); }

  Napi::Value KickThread(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), Kick(info[0].As<Napi::Number>().Int32Value()));
  }

  // Ends every run() of the process, now and from now on, so that Node can join its workers at exit.
  void StopAll(const Napi::CallbackInfo&) {
    stopping.store(true, std::memory_order_seq_cst);
    std::lock_guard<std::mutex> guard(threads_lock);
    for (pid_t tid : threads) Kick(tid);
  }

  // armTimer(deadlineNanos): CLOCK_MONOTONIC, absolute; a deadline in the past fires at once; Infinity disarms.
  // 0 or -errno.
  Napi::Value ArmTimer(const Napi::CallbackInfo& info) {
    double deadline = info[0].As<Napi::Number>().DoubleValue();
    bool arm = deadline < 9e18;
    if (!arm && !armed_) return Napi::Number::New(info.Env(), 0);
    if (!timer_made_) {
      struct sigevent event = {};
      event.sigev_notify = SIGEV_THREAD_ID;
      event.sigev_signo = KickSignal();
      event.sigev_notify_thread_id = tid_;
      if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) return Napi::Number::New(info.Env(), -errno);
      timer_made_ = true;
    }
    struct itimerspec spec = {};
    if (arm) {
      double nanos = deadline < 1 ? 1 : deadline;  // all zero would disarm
      spec.it_value.tv_sec = static_cast<time_t>(nanos / 1e9);
      spec.it_value.tv_nsec = static_cast<long>(nanos - static_cast<double>(spec.it_value.tv_sec) * 1e9);
    }
    armed_ = arm;
    return Napi::Number::New(info.Env(), timer_settime(timer_, TIMER_ABSTIME, &spec, nullptr) == 0 ? 0 : -errno);
  }

  Napi::Value NowNanos(const Napi::CallbackInfo& info) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return Napi::Number::New(info.Env(), static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec));
  }

  pid_t tid_;
  struct {
    uint32_t handle;
    int32_t status;
  } control_ = {};
  timer_t timer_ = {};
  bool timer_made_ = false, armed_ = false;
  std::vector<std::shared_ptr<Mapping>> mappings_;
};

}  // namespace

NODE_API_NAMED_ADDON(apiary, Apiary)
