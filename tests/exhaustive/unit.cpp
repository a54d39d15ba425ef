// A combinational unit of two terms in Verilator, for many pairs in one call.

#include <cstddef>

#include "Vtop.h"

extern "C" void run(const TERM* a, const TERM* b, RESULT* o, std::size_t count) {
    static Vtop top;
    for (std::size_t n = 0; n < count; ++n) {
        top.a = a[n], top.b = b[n];
        top.eval();
        o[n] = top.o;
    }
}
