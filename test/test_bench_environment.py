"""What `worldfm bench` tells of the machine, from /proc/cpuinfo as processors of several kinds write it."""

import platform

import pytest

from worldfm_ros.bench.environment import cpu_name, environment, in_words, instruction_set

ZEN3 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7763 64-Core Processor
flags\t\t: fpu sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c avx2 vaes
bugs\t\t: sysret_ss_attrs

processor\t: 1
model name\t: another
"""
SAPPHIRE = "model name\t: Intel(R) Xeon(R)\nflags\t\t: sse4_2 avx avx2 avx512f avx_vnni avx512_bf16 amx_bf16 amx_tile\n"
SKYLAKE = "model name\t: Intel(R) Xeon(R)\nflags\t\t: sse4_2 avx avx2 avx512f avx512dq avx512bw\n"
OLD = "model name\t: Intel(R) Atom\nflags\t\t: sse sse2 sse4_1 sse4_2\n"
GRAVITON3 = "processor\t: 0\nFeatures\t: fp asimd aes sve asimdfhm svei8mm bf16\nCPU implementer\t: 0x41\n"
RASPBERRY = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize("cpuinfo, words", [
    (ZEN3, "AVX2"),
    (SAPPHIRE, "AVX-512, bf16, AMX"),
    (SKYLAKE, "AVX-512"),
    (OLD, "SSE4.2"),
    (GRAVITON3, "SVE, bf16"),
    (RASPBERRY, "NEON"),
    ("", platform.machine()),
    ("processor\t: 0\n", platform.machine()),
])
def test_the_instruction_set_in_words(cpuinfo, words):
    assert instruction_set(cpuinfo) == words


def test_the_processor_has_its_name_or_at_least_its_architecture():
    assert cpu_name(ZEN3) == "AMD EPYC 7763 64-Core Processor"
    assert cpu_name(GRAVITON3) == cpu_name("")
    assert cpu_name("")


def test_the_line_below_a_table():
    machine = {"cpu": "AMD EPYC 7763", "isa": "AVX2", "threads": 2}
    assert in_words(machine) == "AMD EPYC 7763, AVX2, 2 threads"
    machine |= {"threads": 1, "torch_isa": "DEFAULT"}
    assert in_words(machine) == "AMD EPYC 7763, AVX2, 1 thread; torch uses DEFAULT"


def test_this_machine_without_proc(monkeypatch, tmp_path):
    from worldfm_ros.bench import environment as module

    monkeypatch.setattr(module, "CPUINFO", tmp_path / "none")
    told = environment(3)
    assert told["threads"] == 3 and told["isa"] == platform.machine() and told["cpu"]
