// Counts allocations by who asks for them, bytes that are copied, and calls of the system, to be loaded into a program with LD_PRELOAD.
//
// At the end prints one JSON object to stderr, {"allocations": {"LIBRARY": COUNT, …}, "copied": BYTES, "calls": {"write": COUNT, …}}: calls of
// malloc, calloc, realloc and of those for aligned memory, by the file whose code made the call; bytes of memcpy and memmove, but for
// those that compilers put in place; and calls that read, write or sync a file.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MOST = 128 };
static struct {
  uintptr_t start, end;
  const char *name;
  atomic_ulong count;
} parts[MOST];
static atomic_int known;
static atomic_ulong others;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static int note(struct dl_phdr_info *info, size_t size, void *context) {
  (void)size, (void)context;
  for (int index = 0; index < info->dlpi_phnum; index++) {
    const ElfW(Phdr) *header = &info->dlpi_phdr[index];
    if (header->p_type != PT_LOAD || !(header->p_flags & PF_X) || known == MOST) continue;
    const char *slash = strrchr(info->dlpi_name, '/');
    parts[known].start = info->dlpi_addr + header->p_vaddr;
    parts[known].end = parts[known].start + header->p_memsz;
    parts[known].name = slash ? slash + 1 : *info->dlpi_name ? info->dlpi_name : "the program";
    known++;
  }
  return 0;
}

// Before the program's own code; what came earlier belongs to the start, and is of no interest.
__attribute__((constructor)) static void begin(void) { dl_iterate_phdr(note, NULL); }

static void count(void *caller) {
  for (int index = 0; index < known; index++)
    if ((uintptr_t)caller - parts[index].start < parts[index].end - parts[index].start) {
      atomic_fetch_add_explicit(&parts[index].count, 1, memory_order_relaxed);
      return;
    }
  atomic_fetch_add_explicit(&others, 1, memory_order_relaxed);
}

void *malloc(size_t size) { return count(__builtin_return_address(0)), __libc_malloc(size); }
void *calloc(size_t items, size_t size) { return count(__builtin_return_address(0)), __libc_calloc(items, size); }
void *realloc(void *old, size_t size) { return count(__builtin_return_address(0)), __libc_realloc(old, size); }
void *memalign(size_t to, size_t size) { return count(__builtin_return_address(0)), __libc_memalign(to, size); }
void *aligned_alloc(size_t to, size_t size) { return count(__builtin_return_address(0)), __libc_memalign(to, size); }
int posix_memalign(void **memory, size_t to, size_t size) {
  count(__builtin_return_address(0));
  *memory = __libc_memalign(to, size);
  return *memory ? 0 : 12;
}

static atomic_ulong copied;
typedef void *copy(void *, const void *, size_t);

// Before the loader has found the real one, byte by byte.
__attribute__((optimize("no-tree-loop-distribute-patterns"))) static void *slowly(void *to, const void *from, size_t count) {
  unsigned char *target = to;
  const unsigned char *source = from;
  if (target <= source)
    for (size_t index = 0; index < count; index++) target[index] = source[index];
  else
    while (count-- > 0) target[count] = source[count];
  return to;
}

static void *counted(copy **real, const char *name, void *to, const void *from, size_t count) {
  static _Thread_local int isLooking;
  atomic_fetch_add_explicit(&copied, count, memory_order_relaxed);
  if (*real == NULL && !isLooking) {
    isLooking = 1;
    *real = (copy *)dlsym(RTLD_NEXT, name);
    isLooking = 0;
  }
  return *real ? (*real)(to, from, count) : slowly(to, from, count);
}

void *memcpy(void *to, const void *from, size_t count) {
  static copy *real;
  return counted(&real, "memcpy", to, from, count);
}
void *memmove(void *to, const void *from, size_t count) {
  static copy *real;
  return counted(&real, "memmove", to, from, count);
}

#define CALLS(call) call(read) call(pread) call(pread64) call(write) call(pwrite) call(pwrite64) call(writev) call(fsync) call(fdatasync)
#define COUNTER(name) static atomic_ulong name##_count;
CALLS(COUNTER)

#define PASS(name, type, parameters, arguments)                       \
  type name parameters {                                              \
    static type(*real) parameters;                                    \
    if (real == NULL) real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
    atomic_fetch_add_explicit(&name##_count, 1, memory_order_relaxed); \
    return real arguments;                                            \
  }
PASS(read, ssize_t, (int file, void *bytes, size_t count), (file, bytes, count))
PASS(pread64, ssize_t, (int file, void *bytes, size_t count, off64_t offset), (file, bytes, count, offset))
PASS(pread, ssize_t, (int file, void *bytes, size_t count, off_t offset), (file, bytes, count, offset))
PASS(pwrite, ssize_t, (int file, const void *bytes, size_t count, off_t offset), (file, bytes, count, offset))
PASS(write, ssize_t, (int file, const void *bytes, size_t count), (file, bytes, count))
PASS(pwrite64, ssize_t, (int file, const void *bytes, size_t count, off64_t offset), (file, bytes, count, offset))
PASS(writev, ssize_t, (int file, const struct iovec *parts, int count), (file, parts, count))
PASS(fsync, int, (int file), (file))
PASS(fdatasync, int, (int file), (file))

__attribute__((destructor)) static void end(void) {
  fprintf(stderr, "{\"allocations\": {\"others\": %lu", atomic_load(&others));
  for (int index = 0; index < known; index++)
    if (parts[index].count) fprintf(stderr, ", \"%s\": %lu", parts[index].name, atomic_load(&parts[index].count));
  fprintf(stderr, "}, \"copied\": %lu, \"calls\": {\"others\": 0", atomic_load(&copied));
#define TELL(name) fprintf(stderr, ", \"" #name "\": %lu", atomic_load(&name##_count));
  CALLS(TELL)
  fprintf(stderr, "}}\n");
}
