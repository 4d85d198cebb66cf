"""What the programs ask of the C library."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="concerns glibc")


def test_freed_memory_is_used_again():
    faults = textwrap.dedent("""
        import resource, threading
        from perceiver_io.runtime import program

        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            bytearray(b"x") * (100 << 20)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

        def twice():
            faults()
            faults()

        program._keep_freed_memory()
        thread = threading.Thread(target=twice)
        thread.start()
        thread.join()
    """)
    run = subprocess.run([sys.executable, "-c", faults], capture_output=True, text=True, check=True)
    first, second = map(int, run.stdout.split())
    # Pages have 4 KiB, or with huge pages up to 2 MiB.
    assert first > 40 and second < 10
