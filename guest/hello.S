# hello: the smallest guest. PVH entry, long mode, one line on the serial port, end.
#
# Output:     hello from apiary
# Exit value: 0

        .include "defs.inc"

function main
        say "hello from apiary\n"
        xor %eax, %eax
        ret
