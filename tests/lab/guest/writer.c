/*
 * Copyright (c) 2026, The disksnap.libvirt contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * writer log   TARGET LOG PORT PERIOD_MS sync|nosync
 *     Appends a numbered, checksummed record to LOG each period (0: without a pause), fsyncs it, and then
 *     acknowledges it with a line on PORT. The numbers go on where an earlier log on the same disk ended.
 * writer dirty TARGET FILE MIB MIB_PER_S
 *     Fills FILE, then rewrites it for ever without fsync: the first time at once, so that all of it is dirty,
 *     then at MIB_PER_S, so that what a sync or a freeze has written back gets dirty again.
 *
 * A line on PORT:  KIND SEQ START_NS DONE_NS REALTIME_NS GAP_NS BOOT
 *     KIND  S: on the disk (fsync returned), W: only written (nosync), F: disk full, stopped, E: error, stopped
 *     GAP_NS  the longest time between the starts of two neighbouring records since the line before, so
 *             nothing is lost where lines are left out: the port never blocks the writer (EAGAIN drops the line),
 *             and without a period there is at most one line each 5 ms.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* 64 bytes, little endian; disksnap_lab/records.py reads the same. */
struct record {
    char magic[4];
    uint32_t crc;            /* crc32 of all that follows */
    uint64_t seq;
    uint64_t realtime_ns;    /* when this write call started */
    uint64_t start_ns;       /* the same moment, CLOCK_MONOTONIC */
    uint64_t synced_ns;      /* when the previous record's fsync returned */
    uint32_t boot;           /* tells one boot's monotonic clock from another's */
    uint32_t period_ms;
    char target[8];
    uint64_t unused;
};
_Static_assert(sizeof(struct record) == 64, "record size");

#define LINE_PAUSE_NS 5000000ull    /* between lines when there is no period */
#define ROOM_CHECK 256              /* records between two looks at the free space */

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};
    if (ms > 0)
        nanosleep(&t, NULL);
}

static uint32_t crc_table[256];

static void crc_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        crc_table[i] = c;
    }
}

static uint32_t crc32_of(const void *data, size_t size)
{
    const unsigned char *p = data;
    uint32_t c = 0xffffffffu;
    while (size--)
        c = crc_table[(c ^ *p++) & 0xff] ^ (c >> 8);
    return c ^ 0xffffffffu;
}

static uint32_t record_crc(const struct record *r)
{
    size_t skip = offsetof(struct record, seq);
    return crc32_of((const char *)r + skip, sizeof *r - skip);
}

static uint32_t boot_number(void)
{
    char id[64] = {0};
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY);
    if (fd < 0 || read(fd, id, sizeof id - 1) <= 0)
        return (uint32_t)now_ns(CLOCK_REALTIME);
    close(fd);
    return crc32_of(id, strlen(id));
}

/* The number to go on with. A torn tail (crash) is cut off; whole records are never touched. */
static uint64_t next_seq(int fd)
{
    struct stat st;
    struct record last;
    if (fstat(fd, &st) < 0)
        return 1;
    off_t whole = st.st_size - st.st_size % (off_t)sizeof last;
    if (whole != st.st_size && ftruncate(fd, whole) < 0)
        return 1;
    if (whole == 0 || pread(fd, &last, sizeof last, whole - (off_t)sizeof last) != sizeof last)
        return 1;
    return last.crc == record_crc(&last) ? last.seq + 1 : (uint64_t)(whole / (off_t)sizeof last) + 1;
}

static int room_left(int fd)
{
    struct statvfs s;
    return fstatvfs(fd, &s) == 0 && s.f_bavail > s.f_blocks / 16;
}

static int say(int port, char kind, const struct record *r, uint64_t done, uint64_t gap)
{
    char line[160];
    int n = snprintf(line, sizeof line, "%c %llu %llu %llu %llu %llu %08x\n", kind, (unsigned long long)r->seq,
                     (unsigned long long)r->start_ns, (unsigned long long)done,
                     (unsigned long long)r->realtime_ns, (unsigned long long)gap, r->boot);
    return write(port, line, (size_t)n) == n;
}

static int write_log(char **v)
{
    long period = atol(v[5]);
    int sync_each = strcmp(v[6], "nosync") != 0;
    int fd = open(v[3], O_RDWR | O_CREAT | O_APPEND, 0644);
    int port = open(v[4], O_WRONLY | O_NONBLOCK);
    struct record r = {.magic = "DSL1", .period_ms = (uint32_t)period, .boot = boot_number()};
    uint64_t before = 0, gap = 0, said = 0;

    if (fd < 0 || port < 0) {
        printf("LAB writer-error %s %s\n", v[2], strerror(errno));
        return 1;
    }
    strncpy(r.target, v[2], sizeof r.target - 1);
    r.synced_ns = now_ns(CLOCK_MONOTONIC);
    for (r.seq = next_seq(fd);; r.seq++) {
        r.realtime_ns = now_ns(CLOCK_REALTIME);
        r.start_ns = now_ns(CLOCK_MONOTONIC);
        if (before && r.start_ns - before > gap)
            gap = r.start_ns - before;
        before = r.start_ns;
        r.crc = record_crc(&r);
        if (write(fd, &r, sizeof r) != sizeof r || (sync_each && fsync(fd) < 0)) {
            printf("LAB writer-error %s %s\n", v[2], strerror(errno));
            say(port, 'E', &r, 0, gap);
            return 1;
        }
        uint64_t done = now_ns(CLOCK_MONOTONIC);
        r.synced_ns = done;
        if ((period > 0 || done - said >= LINE_PAUSE_NS) && say(port, sync_each ? 'S' : 'W', &r, done, gap)) {
            said = done;
            gap = 0;
        }
        if (r.seq % ROOM_CHECK == 0 && !room_left(fd)) {
            printf("LAB writer-full %s\n", v[2]);
            say(port, 'F', &r, done, gap);
            return 0;
        }
        pause_ms(period);
    }
}

/* Allocate and sync the file first: a rewrite of blocks already allocated is not flushed by a neighbour's fsync. */
static int keep_dirty(char **v)
{
    enum { CHUNK = 256 * 1024 };
    static char chunk[CHUNK];
    long chunks = atol(v[4]) * 1024 * 1024 / CHUNK;
    long rate = atol(v[5]) > 0 ? atol(v[5]) : 1;
    long between = 1000 * CHUNK / (rate * 1024 * 1024);
    int fd = open(v[3], O_RDWR | O_CREAT, 0644);

    if (fd < 0)
        return 1;
    for (unsigned round = 0;; round++) {
        memset(chunk, (int)round, sizeof chunk);
        for (long i = 0; i < chunks; i++) {
            if (pwrite(fd, chunk, sizeof chunk, (off_t)i * CHUNK) != CHUNK) {
                printf("LAB dirty-error %s %s\n", v[2], strerror(errno));
                return 1;
            }
            pause_ms(round > 1 ? between : 0);
        }
        if (round == 0)
            fsync(fd);
        if (round == 1)
            printf("LAB dirty %s\n", v[2]);
    }
}

int main(int argc, char **argv)
{
    crc_init();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 7 && strcmp(argv[1], "log") == 0)
        return write_log(argv);
    if (argc == 6 && strcmp(argv[1], "dirty") == 0)
        return keep_dirty(argv);
    fprintf(stderr, "usage: see the head of writer.c\n");
    return 2;
}
