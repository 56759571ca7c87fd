"""gcc, ar and make: what is built in the mount runs from the mount, and is built again only when it has to be."""

import pytest

from tests.tools.twins import Twins

pytestmark = pytest.mark.mount
SETTINGS = {"pipeline_object_limit": 0}

_PROJECT = """
printf '#include "v.h"\\nint one(void) { return V; }\\n' > one.c; printf '#define V 1\\n' > v.h
printf '#include <stdio.h>\\nint one(void);\\nint main(void) { printf("%%d\\\\n", one()); return 7; }\\n' > main.c
printf 'prog: main.o lib.a\\n\\tgcc -o prog main.o lib.a\\nlib.a: one.o\\n\\tar rcD lib.a one.o\\n' > Makefile
printf 'one.o: one.c v.h\\n\\tgcc -c one.c\\nmain.o: main.c\\n\\tgcc -c main.c\\n' >> Makefile
printf 'clean:\\n\\trm -f *.o *.a prog\\n' >> Makefile
"""


def test_compile_link_and_run(twins: Twins) -> None:
    """Objects, an archive, a shared library and a program, byte for byte as in a local directory."""
    twins.both(
        _PROJECT
        + """
        gcc -c one.c main.c; ar rcsD lib.a one.o; ar t lib.a; ranlib -D lib.a; gcc -o static main.o lib.a; nm lib.a
        ./static || echo $?; gcc -shared -fPIC -o libone.so one.c; gcc -o dynamic main.o -L. -lone -Wl,-rpath,'$ORIGIN'
        ./dynamic || echo $?; strip -o stripped static; ./stripped || echo $?; gcc -o static main.o lib.a; strip static
        gcc -pipe -O2 -flto -MD -o optimised main.c one.c; ./optimised || echo $?; cat *.d
        rm optimised
        """
    )
    twins.same()


def test_make_builds_what_changed(twins: Twins) -> None:
    """Times in the mount order as in a local directory: nothing is built twice, and what is older is built."""
    twins.both(_PROJECT + "make; ./prog || echo $?; make; make -q")
    rebuilt = twins.both("touch -d '+1 second' v.h; make 2>&1 | sed '/modification time/d; /skew/d'; ./prog || echo $?")
    assert "gcc -c one.c" in rebuilt
    assert "gcc -c main.c" not in rebuilt
    twins.both(
        "make clean; touch -d 2001-01-01 *.c *.h; make -s -j4; make -q; sed -i s/1/2/ v.h; touch -d 2100-01-01 v.h"
    )
    twins.both("make -q", status=1)
    twins.both("make -s 2> /dev/null; ./prog || echo $?; make clean; ls")
    twins.same()
