// Runs a command and prints what it used, as one JSON object after what it wrote to stderr.
//
//   measure COMMAND…
//
// A small process forks here, so that the peak memory is the command's own and not its parent's.
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **arguments) {
  if (count < 2) return 64;
  pid_t child = fork();
  if (child == 0) {
    execvp(arguments[1], arguments + 1);
    _exit(127);
  }
  int status;
  struct rusage usage;
  if (child < 0 || wait4(child, &status, 0, &usage) != child) return 1;
  double user = usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6;
  double system = usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6;
  fprintf(stderr, "{\"cpu_seconds\": %.6f, \"user_seconds\": %.6f, \"peak_kib\": %ld}\n", user + system, user,
          usage.ru_maxrss);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
