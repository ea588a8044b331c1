// For the few small thread_local variables that every call reads.
#pragma once

#include <cstddef>  // defines __GLIBC__ where that is the C library

/// In a library that is loaded late (a Python module) an ordinary thread_local costs a call of
/// __tls_get_addr a read, this one a load. It takes from the little space glibc keeps for libraries
/// that come late, so: pointers and flags only. Elsewhere (musl) such a library would not load.
#if defined(__GLIBC__)
#define LC_HOT_THREAD_LOCAL [[gnu::tls_model("initial-exec")]] constinit thread_local
#else
#define LC_HOT_THREAD_LOCAL constinit thread_local
#endif
