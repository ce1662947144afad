// An allocator that finds writes past the end of a block, for `benchmarks/kernels.py` to preload.
//
// PyTorch and oneDNN take their buffers by posix_memalign. Each gets pages of its own, its end as near to the page's end as
// the alignment allows, and a page without access after it: a write there ends the process at once. Bytes between the two,
// fewer than the alignment, hold a pattern that `free` checks. Freed pages lose their access. Python's own objects come from
// malloc and are not fenced.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL
#define ARENA (1UL << 40)  // of addresses, not of memory
#define PATTERN 0xA5

typedef struct { size_t size, pages; char *block; } Header;  // on a page of its own before the block's

static char *arena;
static size_t next;
static void (*real_free)(void *);
static void *(*real_realloc)(void *, size_t);
static size_t (*real_usable)(void *);

__attribute__((constructor)) static void start(void) {
    if (arena) return;
    real_free = dlsym(RTLD_NEXT, "free");
    real_realloc = dlsym(RTLD_NEXT, "realloc");
    real_usable = dlsym(RTLD_NEXT, "malloc_usable_size");
    arena = mmap(0, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) _exit(99);
}

static int fenced(void *block) { return arena && (char *)block >= arena && (char *)block < arena + ARENA; }

static Header *header_of(void *block) {
    char *page = (char *)((uintptr_t)block & ~(PAGE - 1));
    while (((Header *)page)->block != block) page -= PAGE;
    return (Header *)page;
}

static void *take(size_t alignment, size_t size) {
    start();
    size_t pages = (size + alignment + PAGE - 1) / PAGE, length = (pages + 2) * PAGE;
    size_t offset = __atomic_fetch_add(&next, length, __ATOMIC_RELAXED);
    char *base = arena + offset, *end = base + (1 + pages) * PAGE;
    if (offset + length > ARENA || mprotect(base, (1 + pages) * PAGE, PROT_READ | PROT_WRITE)) return 0;
    char *block = (char *)(((uintptr_t)end - size) & ~(alignment - 1));
    memset(block + size, PATTERN, end - (block + size));
    *(Header *)base = (Header){size, pages, block};
    return block;
}

void free(void *block) {
    if (!fenced(block)) {
        start();
        real_free(block);
        return;
    }
    Header *header = header_of(block);
    char *end = (char *)header + (1 + header->pages) * PAGE;
    for (char *byte = header->block + header->size; byte < end; byte++) {
        if ((unsigned char)*byte != PATTERN) abort();
    }
    size_t length = (1 + header->pages) * PAGE;
    madvise(header, length, MADV_DONTNEED);
    mprotect(header, length, PROT_NONE);
}

void *realloc(void *block, size_t size) {
    start();
    if (!fenced(block)) return real_realloc(block, size);
    size_t before = header_of(block)->size;
    void *moved = malloc(size);
    if (moved) {
        memcpy(moved, block, before < size ? before : size);
        free(block);
    }
    return moved;
}

size_t malloc_usable_size(void *block) {
    start();
    return fenced(block) ? header_of(block)->size : real_usable(block);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    *block = take(alignment, size);
    return *block ? 0 : ENOMEM;
}

void *aligned_alloc(size_t alignment, size_t size) { return take(alignment, size); }

void *memalign(size_t alignment, size_t size) { return take(alignment, size); }
