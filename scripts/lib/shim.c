// Lies to one process about its clocks and its disk: LD_PRELOAD=shim.so SHIM=DIR, for tests. Nothing outside the process changes.
//
// What it does is in files of DIR, which are read at every call:
//   wall     SECONDS            added to CLOCK_REALTIME
//   later    SECONDS            added to CLOCK_BOOTTIME
//   slow     SECONDS TEXT       a sync of a file whose path contains TEXT takes this much longer
//   refuse   ERRNO TEXT         writing and cutting such a file fails
//   dying    ERRNO TEXT         the next sync of such a file writes nothing and says that it did; from then on it is `refuse`, as on
//                               a file system that is given up
//   half                        once, half of a write that is to fail is written
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

// The number in the file, and the text after it; 0 if there is no such file.
static long control(const char *name, char *text, size_t size) {
  const char *directory = getenv("SHIM");
  if (!directory) return 0;
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  FILE *file = fopen(path, "re");
  if (!file) return 0;
  long value = 0;
  char format[32];
  snprintf(format, sizeof format, "%%ld %%%zus", size - 1);
  text[0] = 0;
  if (fscanf(file, format, &value, text) < 1) value = 0;
  fclose(file);
  return value;
}

static int is_named(int descriptor, const char *text) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return text[0] && strstr(path, text) != NULL;
}

static int is_refused(int descriptor) {
  char text[256];
  long number = control("refuse", text, sizeof text);
  if (!number || !is_named(descriptor, text)) return 0;
  errno = (int)number;
  return 1;
}

static void delay(int descriptor) {
  char text[256];
  long seconds = control("slow", text, sizeof text);
  if (seconds && is_named(descriptor, text)) sleep((unsigned)seconds);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  REAL(int, clock_gettime, clockid_t, struct timespec *);
  int code = real(clock, time);
  char text[2];
  if (clock == CLOCK_REALTIME) time->tv_sec += control("wall", text, sizeof text);
  if (clock == CLOCK_BOOTTIME) time->tv_sec += control("later", text, sizeof text);
  return code;
}

static int is_dying(int descriptor) {
  char text[256], from[PATH_MAX], to[PATH_MAX];
  if (!control("dying", text, sizeof text) || !is_named(descriptor, text)) return 0;
  snprintf(from, sizeof from, "%s/dying", getenv("SHIM"));
  snprintf(to, sizeof to, "%s/refuse", getenv("SHIM"));
  return rename(from, to) == 0;
}

int fsync(int descriptor) {
  REAL(int, fsync, int);
  if (is_dying(descriptor)) return 0;
  delay(descriptor);
  return real(descriptor);
}

int fdatasync(int descriptor) {
  REAL(int, fdatasync, int);
  if (is_dying(descriptor)) return 0;
  delay(descriptor);
  return real(descriptor);
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
  REAL(ssize_t, write, int, const void *, size_t);
  if (!is_refused(descriptor)) return real(descriptor, bytes, count);
  int number = errno;
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/half", getenv("SHIM"));
  if (count > 1 && unlink(path) == 0) return real(descriptor, bytes, count / 2);
  errno = number;
  return -1;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
  REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
  return is_refused(descriptor) ? -1 : real(descriptor, bytes, count, offset);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t offset) {
  REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
  return is_refused(descriptor) ? -1 : real(descriptor, bytes, count, offset);
}

int ftruncate(int descriptor, off_t length) {
  REAL(int, ftruncate, int, off_t);
  return is_refused(descriptor) ? -1 : real(descriptor, length);
}

int ftruncate64(int descriptor, off64_t length) {
  REAL(int, ftruncate64, int, off64_t);
  return is_refused(descriptor) ? -1 : real(descriptor, length);
}
