"""What numba has no words for: arrays behind an address, a counter shared by threads, and a splat's box as one vector.

LLVM makes of the vectors what the processor has: one instruction of AVX-512 for a whole box, several of a smaller set.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
import numpy as np

BOX = 4  # pixels, columns and at most rows of the boxes
ROUND = np.float32(1.5 * 2**23)  # (x + ROUND) - ROUND is x rounded half to even, for |x| < 2**22
_FLOAT, _INT, _LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)


@intrinsic
def pointer(_, address):
    """The address as a pointer for `numba.carray`."""
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@intrinsic
def prefetch(_, address):
    """Begin to load what lies at the address."""
    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, _INT, _INT, _INT])
        function = builder.module.declare_intrinsic("llvm.prefetch", [cgutils.voidptr_t], kind)
        builder.call(function, [place, _INT(0), _INT(3), _INT(1)])
        return context.get_dummy_value()

    return types.void(address), generate


@intrinsic
def take(_, counter):
    """The number in counter (1,) int64, which is one more after it: no two threads get the same."""
    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", array.data, _LONG(1), "monotonic")

    return types.int64(counter), generate


@intrinsic
def draw_box(_, rows, keys, corner, stride, number, x0, y0, splat):
    """Put a splat into the `rows` (2 or BOX, a literal) x BOX keys that begin at the place `corner`, pixel (x0, y0).

    keys: flat, int64, rows `stride` apart; splat: u, v, z, r^2, fall, radius as in `_splat`; all float32.
    """
    if not isinstance(rows, types.IntegerLiteral):
        return None
    lanes = rows.literal_value * BOX
    floats, ints = ir.VectorType(_FLOAT, lanes), ir.VectorType(_INT, lanes)

    def generate(context, b, signature, arguments):
        _, keys, corner, stride, number, x0, y0, splat = arguments
        data = context.make_array(signature.args[1])(context, b, keys).data

        def spread(scalar):
            none = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
            one = b.insert_element(none, scalar, _INT(0))
            return b.shuffle_vector(one, none, ints([0] * lanes))

        def rint(x):
            return b.fsub(b.fadd(x, spread(_FLOAT(float(ROUND)))), spread(_FLOAT(float(ROUND))))

        u, v, z, r2, fall, radius = (spread(value) for value in cgutils.unpack_tuple(b, splat))
        x = b.fadd(spread(x0), floats([float(k % BOX) for k in range(lanes)]))
        y = b.fadd(spread(y0), floats([float(k // BOX) for k in range(lanes)]))
        du, dv = b.fsub(x, u), b.fsub(y, v)
        d2 = b.fadd(b.fmul(du, du), b.fmul(dv, dv))
        own = b.and_(b.fcmp_ordered("==", x, rint(u)), b.fcmp_ordered("==", y, rint(v)))
        covers = b.or_(b.fcmp_ordered("<=", d2, r2), own)
        deeper = b.fmul(d2, fall)
        deeper = b.select(b.fcmp_ordered("<", deeper, radius), deeper, radius)
        depth = b.select(covers, b.fadd(z, deeper), spread(_FLOAT(float("inf"))))
        depth, number = b.bitcast(depth, ints), spread(b.trunc(number, _INT))
        for row in range(lanes // BOX):
            pairs = [k for column in range(BOX) for k in (0, lanes + row * BOX + column)]  # low and high words
            key = b.bitcast(b.shuffle_vector(number, depth, ir.VectorType(_INT, 2 * BOX)(pairs)),
                            ir.VectorType(_LONG, BOX))
            place = b.gep(data, [b.add(corner, b.mul(stride, _LONG(row)))])
            place = b.bitcast(place, key.type.as_pointer())
            old = b.load(place, align=8)
            b.store(b.select(b.icmp_signed("<", key, old), key, old), place, align=8)
        return context.get_dummy_value()

    scalars = types.int64, types.int64, types.int64, types.float32, types.float32
    return types.void(rows, keys, *scalars, types.UniTuple(types.float32, 6)), generate
