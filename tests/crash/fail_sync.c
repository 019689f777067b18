/* Loaded into a gateway (LD_PRELOAD): while the file named by FAIL_SYNC is there, syncing a file whose path has the text in that
 * file fails as on a faulty disk, with EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    const char *order = getenv("FAIL_SYNC");
    char part[256] = {0}, link[64], path[4096] = {0};
    int file = order ? open(order, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    ssize_t length = read(file, part, sizeof part - 1);
    close(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return length > 0 && readlink(link, path, sizeof path - 1) > 0 && strstr(path, part) != NULL;
}

static int sync_as(const char *name, int fd) {
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fsync(int fd) { return sync_as("fsync", fd); }
int fdatasync(int fd) { return sync_as("fdatasync", fd); }
