// Counts allocations by who asks for them, to be loaded into a program with LD_PRELOAD.
//
// At the end prints one JSON object to stderr, {"allocations": {"LIBRARY": COUNT, …}}: calls of malloc, calloc, realloc and
// of those for aligned memory, by the file whose code made the call.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

__attribute__((destructor)) static void end(void) {
  fprintf(stderr, "{\"allocations\": {\"others\": %lu", atomic_load(&others));
  for (int index = 0; index < known; index++)
    if (parts[index].count) fprintf(stderr, ", \"%s\": %lu", parts[index].name, atomic_load(&parts[index].count));
  fprintf(stderr, "}}\n");
}
