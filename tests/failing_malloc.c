/* Makes one allocation of the extension fail: those of its Rust code, which call the C library's functions. Other
   callers, such as CPython, get their memory. Loaded with LD_PRELOAD. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t align, size_t size);

/* How many allocations succeed before one fails. Negative: none fails. */
long allocations_before_failure = -1;

static int fails(void *caller)
{
    Dl_info info;
    if (allocations_before_failure < 0 || !dladdr(caller, &info) || !strstr(info.dli_fname, "_bytepool"))
        return 0;
    return allocations_before_failure-- == 0;
}

#define FAILS fails(__builtin_return_address(0))

void *malloc(size_t size) { return FAILS ? NULL : __libc_malloc(size); }

void *calloc(size_t count, size_t size) { return FAILS ? NULL : __libc_calloc(count, size); }

void *realloc(void *memory, size_t size) { return FAILS ? NULL : __libc_realloc(memory, size); }

int posix_memalign(void **memory, size_t align, size_t size)
{
    *memory = FAILS ? NULL : __libc_memalign(align, size);
    return *memory ? 0 : ENOMEM;
}
