// The floor: the least that a monitor with userspace local APICs can do to run guest/bench-*.S, in C.
//
//   floor IMAGE [CPUS]      the guest's serial output on stdout; the guest's exit status
//   floor --tsc-khz         the frequency of the guests' TSC
//
// One thread for each vCPU, KVM_RUN, and for each exit only what these guests need: no device model, no checks, an APIC
// that knows fixed IPIs, INIT, SIPI, EOI and nothing of priorities. So its figures are what the kernel costs.
#define _GNU_SOURCE
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MEMORY = 64 << 20, MAX_CPUS = 8, COM1 = 0x3f8, EXIT_PORT = 0xf4, PM_TIMER = 0x608, CPUS_PORT = 0xcd8 };
enum { APIC_PAGE_ADDRESS = 0xfee00000, MSR_APIC_BASE = 0x1b, MSR_DEADLINE = 0x6e0, MSR_X2APIC = 0x800 };
enum { REG_ID = 0x20, REG_VERSION = 0x30, REG_EOI = 0xb0, REG_ICR = 0x300, REG_ICR2 = 0x310, REG_TMCCT = 0x390, REG_SELF = 0x3f0 };
enum { EVENT_INIT = 1, EVENT_SIPI = 2 };

struct cpu {
  int fd, id;
  pthread_t thread;
  struct kvm_run *run;
  uint32_t page[256];             // registers, by offset / 4
  uint64_t base;                  // IA32_APIC_BASE
  int in_service, can_inject, waits_for_sipi;
  _Atomic int asleep;             // futex: 1 while the thread waits for `wake`
  _Atomic int in_guest;
  _Atomic uint32_t irr[8], events, sipi;
};

static struct cpu cpus[MAX_CPUS];
static int cpu_count = 1, vm, selector;
static uint8_t *memory, scratch;
static struct kvm_cpuid2 *cpuid;
static _Thread_local struct kvm_run *current;

static int check(int result, const char *what) {
  if (result < 0) err(1, "%s", what);
  return result;
}

static void on_kick(int signal) {
  (void)signal;
  if (current) current->immediate_exit = 1;
}

static void wake(struct cpu *cpu, struct cpu *sender) {
  if (cpu == sender) return;
  if (atomic_exchange(&cpu->asleep, 0)) syscall(SYS_futex, &cpu->asleep, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
  else if (atomic_load(&cpu->in_guest)) pthread_kill(cpu->thread, SIGUSR1);
}

static void send_ipi(struct cpu *sender, uint32_t low, uint32_t destination) {
  for (int i = 0; i < cpu_count; i++) {
    struct cpu *cpu = &cpus[i];
    switch (low >> 18 & 3) {
      case 0: if ((uint32_t)cpu->id != destination) continue; break;
      case 1: if (cpu != sender) continue; break;
      case 3: if (cpu == sender) continue; break;
    }
    switch (low >> 8 & 7) {
      case 5: atomic_fetch_or(&cpu->events, EVENT_INIT); break;
      case 6: atomic_store(&cpu->sipi, low & 0xff); atomic_fetch_or(&cpu->events, EVENT_SIPI); break;
      default: atomic_fetch_or(&cpu->irr[low >> 5 & 7], 1u << (low & 31));
    }
    wake(cpu, sender);
  }
}

static void apic_write(struct cpu *cpu, unsigned offset, uint32_t value, uint32_t high, int x2apic) {
  switch (offset) {
    case REG_EOI: cpu->in_service = 0; break;
    case REG_ICR:
      cpu->page[REG_ICR / 4] = value & ~0x1000u;
      send_ipi(cpu, value, x2apic ? high : cpu->page[REG_ICR2 / 4] >> 24);
      break;
    case REG_SELF: send_ipi(cpu, 0x40000 | (value & 0xff), 0); break;
    default: cpu->page[offset / 4] = value;
  }
}

static uint32_t apic_read(struct cpu *cpu, unsigned offset) {
  if (offset == REG_TMCCT) { // the library may measure the TSC against it: 1 GHz, counting down
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return -(uint32_t)(now.tv_sec * 1000000000ll + now.tv_nsec);
  }
  return cpu->page[offset / 4];
}

static uint32_t port_in(unsigned port, unsigned size) {
  struct timespec now;
  switch (port) {
    case COM1 + 2: return 0xc1;
    case COM1 + 5: return 0x60;
    case COM1 + 7: return scratch;
    case PM_TIMER:
      clock_gettime(CLOCK_MONOTONIC, &now);
      return (uint32_t)((now.tv_sec * 1000000000ll + now.tv_nsec) * 3579545 / 1000000000) & 0xffffff;
    case CPUS_PORT: return selector < cpu_count ? 0 : selector;
    case CPUS_PORT + 4: return selector < cpu_count;
    case CPUS_PORT + 8: return selector < cpu_count ? selector : 0;
    default: return size == 4 ? 0xffffffff : (1u << 8 * size) - 1;
  }
}

static int dlab;
static void port_out(unsigned port, uint32_t value) {
  switch (port) {
    case COM1: if (!dlab) putchar_unlocked(value); break;
    case COM1 + 3: dlab = value & 0x80; break;
    case COM1 + 7: scratch = value; break;
    case EXIT_PORT: fflush(stdout); _exit(value << 1 | 1);
    case CPUS_PORT: selector = value; break;
  }
}

static void take_events(struct cpu *cpu) {
  uint32_t events = atomic_exchange(&cpu->events, 0);
  if (events & EVENT_INIT) cpu->waits_for_sipi = 1;
  if (events & EVENT_SIPI && cpu->waits_for_sipi) {
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rflags = 2};
    check(ioctl(cpu->fd, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.cs.selector = atomic_load(&cpu->sipi) << 8;
    sregs.cs.base = atomic_load(&cpu->sipi) << 12;
    check(ioctl(cpu->fd, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    check(ioctl(cpu->fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
    cpu->waits_for_sipi = 0;
  }
}

static int pending_vector(struct cpu *cpu) {
  if (cpu->in_service) return -1;
  for (int i = 7; i >= 0; i--) {
    uint32_t bits = atomic_load(&cpu->irr[i]);
    if (bits) return i * 32 + 31 - __builtin_clz(bits);
  }
  return -1;
}

static void sleep_until_woken(struct cpu *cpu) {
  atomic_store(&cpu->asleep, 1);
  if (pending_vector(cpu) < 0 && !atomic_load(&cpu->events)) {
    while (atomic_load(&cpu->asleep)) syscall(SYS_futex, &cpu->asleep, FUTEX_WAIT_PRIVATE, 1, 0, 0, 0);
  }
  atomic_store(&cpu->asleep, 0);
}

static void handle_exit(struct cpu *cpu) {
  struct kvm_run *run = cpu->run;
  uint8_t *data = (uint8_t *)run + run->io.data_offset;
  uint32_t value = 0;
  switch (run->exit_reason) {
    case KVM_EXIT_IO:
      if (run->io.direction == KVM_EXIT_IO_OUT) {
        memcpy(&value, data, run->io.size);
        port_out(run->io.port, value);
      } else {
        value = port_in(run->io.port, run->io.size);
        memcpy(data, &value, run->io.size);
      }
      break;
    case KVM_EXIT_MMIO:
      if (run->mmio.is_write) {
        memcpy(&value, run->mmio.data, 4);
        apic_write(cpu, run->mmio.phys_addr & 0xfff, value, 0, 0);
      } else {
        value = apic_read(cpu, run->mmio.phys_addr & 0xfff);
        memcpy(run->mmio.data, &value, 4);
      }
      break;
    case KVM_EXIT_X86_RDMSR:
      run->msr.error = 0;
      run->msr.data = run->msr.index == MSR_APIC_BASE ? cpu->base : apic_read(cpu, (run->msr.index - MSR_X2APIC) * 16);
      break;
    case KVM_EXIT_X86_WRMSR:
      run->msr.error = 0;
      if (run->msr.index == MSR_APIC_BASE) cpu->base = run->msr.data;
      else apic_write(cpu, (run->msr.index - MSR_X2APIC) * 16, run->msr.data, run->msr.data >> 32, 1);
      break;
    case KVM_EXIT_HLT:
      if (pending_vector(cpu) < 0) sleep_until_woken(cpu);
      break;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_INTR:
      break;
    default:
      errx(1, "exit reason %u", run->exit_reason);
  }
}

static void *run_cpu(void *argument) {
  struct cpu *cpu = argument;
  struct kvm_run *run = cpu->run;
  current = run;
  for (;;) {
    if (atomic_load(&cpu->events)) take_events(cpu);
    while (cpu->waits_for_sipi) {
      sleep_until_woken(cpu);
      take_events(cpu);
    }
    atomic_store(&cpu->in_guest, 1); // before the look at irr: a sender sets irr before it looks at this
    int vector = pending_vector(cpu);
    if (vector >= 0 && cpu->can_inject) {
      struct kvm_interrupt interrupt = {vector};
      atomic_fetch_and(&cpu->irr[vector >> 5], ~(1u << (vector & 31)));
      check(ioctl(cpu->fd, KVM_INTERRUPT, &interrupt), "KVM_INTERRUPT");
      cpu->in_service = vector;
      vector = -1;
    }
    run->request_interrupt_window = vector >= 0;
    int result = ioctl(cpu->fd, KVM_RUN, 0);
    atomic_store(&cpu->in_guest, 0);
    run->immediate_exit = 0;
    cpu->can_inject = run->ready_for_interrupt_injection;
    if (result == 0) handle_exit(cpu);
  }
  return NULL;
}

static uint64_t load_image(const char *path) {
  int fd = check(open(path, O_RDONLY), path);
  Elf64_Ehdr header;
  check(pread(fd, &header, sizeof header, 0), path);
  for (int i = 0; i < header.e_phnum; i++) {
    Elf64_Phdr segment;
    check(pread(fd, &segment, sizeof segment, header.e_phoff + i * sizeof segment), path);
    if (segment.p_type == PT_LOAD) check(pread(fd, memory + segment.p_paddr, segment.p_filesz, segment.p_offset), path);
  }
  close(fd);
  return header.e_entry;
}

static void set_cpuid(struct cpu *cpu, unsigned tsc_khz) {
  for (unsigned i = 0; i < cpuid->nent; i++) {
    struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
    if (entry->function == 1) {
      entry->ecx |= 1u << 21 | 1u << 31; // x2APIC, hypervisor
      entry->ebx = (entry->ebx & 0xffffff) | (uint32_t)cpu->id << 24;
    }
    if (entry->function == 0xb || entry->function == 0x1f) entry->edx = cpu->id;
    if (entry->function == 0x40000000) entry->eax = 0x40000010;
    if (entry->function == 0x40000010) entry->eax = tsc_khz;
  }
  check(ioctl(cpu->fd, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
}

static void make_cpu(int id, int run_size, unsigned tsc_khz) {
  struct cpu *cpu = &cpus[id];
  cpu->id = id;
  cpu->fd = check(ioctl(vm, KVM_CREATE_VCPU, (long)id), "KVM_CREATE_VCPU");
  cpu->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
  cpu->base = APIC_PAGE_ADDRESS | 0x800 | (id == 0 ? 0x100 : 0);
  cpu->page[REG_ID / 4] = id << 24;
  cpu->page[REG_VERSION / 4] = 0x50014;
  cpu->waits_for_sipi = id != 0;
  set_cpuid(cpu, tsc_khz);
}

static void enter_image(struct cpu *cpu, uint64_t entry) {
  struct kvm_sregs sregs;
  struct kvm_regs regs = {.rip = entry, .rflags = 2};
  struct kvm_segment data = {.limit = ~0u, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
  check(ioctl(cpu->fd, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.cs = data;
  sregs.cs.type = 11;
  sregs.cs.selector = 8;
  sregs.cr0 = 0x11;
  check(ioctl(cpu->fd, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  check(ioctl(cpu->fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

int main(int argc, char **argv) {
  if (argc < 2) errx(2, "usage: floor IMAGE [CPUS]");
  if (argc > 2) cpu_count = atoi(argv[2]);
  if (cpu_count < 1 || cpu_count > MAX_CPUS) errx(2, "1 to %d CPUs", MAX_CPUS);
  struct sigaction action = {.sa_handler = on_kick};
  sigaction(SIGUSR1, &action, NULL);

  int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
  vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  check(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
  memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct kvm_userspace_memory_region region = {.memory_size = MEMORY, .userspace_addr = (uint64_t)memory};
  check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
  struct kvm_enable_cap exits = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                 .args = {KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_FILTER}};
  check(ioctl(vm, KVM_ENABLE_CAP, &exits), "KVM_ENABLE_CAP");
  static uint8_t none[8];
  struct kvm_msr_filter filter = {.ranges = {{.flags = 3, .nmsrs = 1, .base = MSR_APIC_BASE, .bitmap = none},
                                             {.flags = 3, .nmsrs = 1, .base = MSR_DEADLINE, .bitmap = none}}};
  check(ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter), "KVM_X86_SET_MSR_FILTER");

  enum { ENTRIES = 256 };
  cpuid = calloc(1, sizeof *cpuid + ENTRIES * sizeof cpuid->entries[0]);
  cpuid->nent = ENTRIES - 1;
  check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
  cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){.function = 0x40000010, .ebx = 1000000};
  int run_size = check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  unsigned tsc_khz = check(ioctl(vm, KVM_GET_TSC_KHZ, 0), "KVM_GET_TSC_KHZ");
  if (strcmp(argv[1], "--tsc-khz") == 0) {
    printf("%u\n", tsc_khz);
    return 0;
  }
  for (int id = 0; id < cpu_count; id++) make_cpu(id, run_size, tsc_khz);
  enter_image(&cpus[0], load_image(argv[1]));
  setlinebuf(stdout);
  for (int id = 0; id < cpu_count; id++) pthread_create(&cpus[id].thread, NULL, run_cpu, &cpus[id]);
  pthread_join(cpus[0].thread, NULL);
}
