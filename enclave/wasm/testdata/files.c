// The guest of the tests of RunCommand: a WASI preview 1 command that does what
// its arguments say, one step after the other, and prints what came of each.
// Build it with build.sh beside this file.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

// Prints the name of an error, or the text of a success.
static void came(int failed, const char *text) {
  if (!failed)
    puts(text);
  else if (errno == EROFS)
    puts("EROFS");
  else if (errno == EPERM)
    puts("EPERM");
  else if (errno == ENOENT)
    puts("ENOENT");
  else if (errno == EBADF)
    puts("EBADF");
  else
    puts(strerror(errno));
}

static void read_file(const char *path) {
  char text[256];
  int fd = open(path, O_RDONLY);
  ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  text[n < 0 ? 0 : n] = 0;
  came(n < 0, text);
  if (fd >= 0) close(fd);
}

static void write_file(const char *path, int flags) {
  int fd = open(path, flags, 0600);
  came(fd < 0 || write(fd, "guest", 5) != 5, "written");
  if (fd >= 0) close(fd);
}

// Tries everything that changes a file through a descriptor for reading.
static void change_open(const char *path) {
  struct timespec times[2] = {{1, 0}, {1, 0}};
  int fd = open(path, O_RDONLY);
  if (fd < 0) return came(1, "");
  came(write(fd, "x", 1) != 1, "written");
  came(ftruncate(fd, 0), "truncated");
  came(futimens(fd, times), "touched");
  came(fcntl(fd, F_SETFL, O_APPEND), "appending");
  came(pwrite(fd, "x", 1, 0) != 1, "written");
  close(fd);
}

static void list(const char *path) {
  DIR *d = opendir(path);
  if (!d) return came(1, "");
  for (struct dirent *e; (e = readdir(d));)
    if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) printf("%s;", e->d_name);
  puts("");
  closedir(d);
}

int main(int argc, char **argv) {
  struct timespec times[2] = {{1, 0}, {1, 0}};
  struct stat st;
  for (int i = 1; i < argc; i++) {
    const char *step = argv[i], *a = i + 1 < argc ? argv[i + 1] : "", *b = i + 2 < argc ? argv[i + 2] : "";
    char link[256] = {0};
    printf("%s ", step);
    int two = 0, none = 0;
    if (!strcmp(step, "read")) read_file(a);
    else if (!strcmp(step, "create")) write_file(a, O_WRONLY | O_CREAT);
    else if (!strcmp(step, "write")) write_file(a, O_WRONLY);
    else if (!strcmp(step, "append")) write_file(a, O_WRONLY | O_APPEND);
    else if (!strcmp(step, "truncate")) { int fd = open(a, O_RDONLY | O_TRUNC); came(fd < 0, "truncated"); if (fd >= 0) close(fd); }
    else if (!strcmp(step, "change")) change_open(a);
    else if (!strcmp(step, "list")) list(a);
    else if (!strcmp(step, "stat")) came(stat(a, &st), "there");
    else if (!strcmp(step, "lstat")) came(lstat(a, &st), S_ISLNK(st.st_mode) ? "link" : "there");
    else if (!strcmp(step, "readlink")) came(readlink(a, link, sizeof link - 1) < 0, link);
    else if (!strcmp(step, "unlink")) came(unlink(a), "removed");
    else if (!strcmp(step, "mkdir")) came(mkdir(a, 0777), "made");
    else if (!strcmp(step, "rmdir")) came(rmdir(a), "removed");
    else if (!strcmp(step, "touch")) came(utimensat(AT_FDCWD, a, times, 0), "touched");
    else if (!strcmp(step, "symlink")) came(symlink(a, b), "linked"), two = 1;
    else if (!strcmp(step, "link")) came(linkat(AT_FDCWD, a, AT_FDCWD, b, 0), "linked"), two = 1;
    else if (!strcmp(step, "rename")) came(rename(a, b), "renamed"), two = 1;
    else if (!strcmp(step, "env")) { none = 1; for (char **e = environ; *e; e++) printf("%s;", *e); puts(""); }
    else if (!strcmp(step, "stdin")) { none = 1; came(0, getchar() == EOF ? "empty" : "open"); }
    else if (!strcmp(step, "stderr")) fprintf(stderr, "%s\n", a), puts("");
    else if (!strcmp(step, "exit")) { puts(""); exit(atoi(a)); }
    else if (!strcmp(step, "clock")) { none = 1; puts(time(0) > 1600000000 ? "now" : "not set"); }
    else if (!strcmp(step, "argc")) { none = 1; printf("%d %s\n", argc, argv[0]); }
    i += none ? 0 : two ? 2 : 1;
  }
  return 0;
}
