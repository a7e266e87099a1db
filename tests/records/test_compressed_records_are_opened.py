"""pstore content that the kernel left compressed is opened, whole or as far as it goes, and never harms."""

import base64
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from necropsy_agent.records import pstore
from necropsy_agent.records.compressed import LIMIT_BYTES, decompress

_FRAMES = (
    *("do_one_initcall", "load_module", "vfs_read", "ksys_read"),
    *("do_syscall_64", "asm_exc_page_fault", "kthread", "ret_from_fork"),
)
_TRACE = "".join(
    f"<4>[{n // 7:5d}.{n * 7919 % 1_000_000:06d}]  "
    f"{_FRAMES[n * 5 % 8]}+0x{n * 37 % 4096:x}/0x{n * 53 % 8192:x}\n"
    for n in range(40)
).encode()
# The trace comes again after more than 16 KiB, for the instruction that reaches so far back.
TEXT = b"Panic#2 Part3\n" + _TRACE + (b"<6>[    1.000000] " + b"." * 64 + b"\n") * 220 + _TRACE

# lzo1x_1_compress(TEXT) of liblzo2 2.10 and LZ4_compress_default(TEXT) of liblz4 1.9.4, base85.
LZO = base64.b85decode(
    "00&TEZfRp9G9XZ4a&$8aJTyLAARr(hFfK5F000PGARuIKUvF+@UukY>bYo#`Y%4H$FfTB8Fe|7401`JjF*#izAYpTDUuAe>UvO"
    "b(WnX4tb!>DiFnBUGFEDsBH3}(c0RRXwH8?XkT_7NKW^-"
    "S1WnpA1FnBa!FEDsEVJcJs01YxTH#Ik1ARuyObYEt2Z*5;@Z*prZFnBg*FEDsHW-6!v0y8l-H#V;ob9r-"
    "k6bfH9G%GN8IW#XYcw{syr~m*9IW;*oT_7NAZ((F#ZEs|CY-KAjcw#v(FnBRAIVz+82sAe}F*IEuAZv7J(iCK6b_6qJCzJpMF)"
    "lDQH8e9bb_8>ICo=;vFf(BVHz+&>1u-r#HZwCdGOQFWKLs%|IC=$PI4WEL0yi--H!(I(1u-"
    ";aW(H(rE5rZ+IWajfEK~&sF*h<VFnBUCGAf(^0XR1?FmyF8Uj;EaH*y6uH!83I0Xa1=GHW$tZ(l2C1u<e{as@YIDX;(nF)%VYG"
    "-Ng`Zv`=BF=_>3F(;@11Tro$F)%nbWHu;s1u`%;dIV)QE1Li~H#l`QYbkdHGBRRjN-"
    "<(8pa20fHa9SEH88dcGBtixGc_p03IsAPF*7taGITaH#R@lxRyZik3IsAPF*GtYG<Y{D&I&R)a#k~9DAWoBGA=PSFf=xNHZFDr"
    "GGcmGGi4~;3UdWGGdO5AE_MYnWnxz}GAQH<1T!u%Ha0Rjd^Rk01v4;eS2Q&!=n4cgE-"
    "^PWGBI>ED0T%iGHzEiI4JB21T!u%I5IIad^IX|1v52nS2SZN><R=kE-"
    "^VUFg0{FFm?qqH*QxnW+?0mdj&T+H*_{Lb_FvzZdWxjDC`OZGcGbPH8?qVHz{@nGh=R7H8v>h3IsDQGBGnaF?=>Ib_FwKZdWxq"
    "DC`OZG%hkSF*h@4HZFDrG%#*gHDf633UdWHHZ^=UEOrGnGj3NlFevT{G%lQybT%k<1vE8oS2i;!><R=lE;2MVG&p=UDs}}lH*Q"
    "xpHYn^01T-"
    "!(H8V6YbTu${1vFtWn4&1`3IsGRGBz<YGITaGb_FzJZdW#BDC`Pn201b`csD6_1vF)DS2r*y><R=mE;2VaF*bZQE_MYqFm6{jG"
    "bro|1T`))I5jXhXf`f(1vN8nS2s5(><R=mE;2bYFfe>JEOrGoHEvfoVJPeh1T`)*FfchXbT%k<1vNKrS2tuR><W7XI5;$XH7a%"
    "mHDPR512{1=3OqKw*fA#^8!jLo001BW0000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000001dS0T2KH00000v2Zv50drq+WnpA1FnBd#GcPcBI59H{5dZ)"
)
LZ4 = base64.b85decode(
    "@d{93ZfRp9G9XZ4a&$8aJTyLAARr(hFfK3w0Qn1DARuIKUvF+@UukY>bYo#`Y%4H$FfTB8Fe?D~6gN3BIb9$iVRLO?Wq4y>aA9"
    "X<UuI!-Y;-"
    "FycrrCFFnBXHFaY=qF*P_dI9(thc4l*5a%Ev;D=>I8VJ|RvHen_J_z*HPH#Ik1ARuyObYEt2Z*5;@Z*prZFnBg*FEDsHW-"
    "9<vGch(dHmm?Jb9r;80NGzQG%GN8IW#XYcw{sy0Qe3$H90k1ARugSVPs!zZ)A0BWh*dvVmU7`crh?JDgd)IH#IRdT_7N9bZDgj"
    "AY^4G03|bJCIEmjE-*DUG&3_M03~yI%>XblFf%Ct7B^4<f-x>IHZwCdGNb?tPysM8GB_^)C}B8Q0ADvTGB+_)0R=EIG-NUWDP&"
    "|a07^MAIWSfMm@zjpFEDsAF)}CsKsYxsFs=a%SOG9GIX5i;C^R=M06;l4FfywF3|av&F=Asa04FzNEdWq4FfutbvH=QQ0WdLTF"
    ")IKiVlgWKa5642F)%nbvH=EN0WdN!HYWfnWi}@OFgQ0jt^o*M0WdN$Vp0MqF=8nIKr%KrFs%U&UI8F7HLwCEGc~dTa5642Gc-"
    "0bwgC^a0s|2@vjP@4v;uH4E-"
    "^GRH8j5g2ebkpGC8#ZCNpBT0&p@eF*PtWHn;%{UI8F7Vz&Y&GiA5}Au=uq0|2uD3|;{sGG(~}CNwg-"
    "0&p`fF*Y_bIk*7|UI8F8FuMXKG&Q>da5FA3H#9OawgCoS0U$FnyaFaPIJ^RIGcGYWGBGo-0SI0JATu?*0wy$LyaI4DE-"
    "^VUFg30L4qgEuGdH{fCNyTe0st=nFgH0jwgC@b0RkX1IlKZUH8Q*ca5FA4Ff}+izX1nc0U$GDyaFaQHoO9GGcGbQGdMB00SsON"
    "ATwpW0wy&%yaI4EE;2GPH#4&V3|;{sG%&mZCN*Qc0st)lFgZ3gxB&`Y0U$IpyaFaRFuVdGG%lC~0JZ@JUI8F9HM{~QHZ!~ea5O"
    "G5G&M9humK2O0U$ItyaFaRHoO9GG%hkVGc+)+0S;aPAT(jT0wy+LyaI4EE;2STGcvXT4_*NRAT(pV0wy+OyaE6+05CZ+G`|4{U"
    "I8F9WxN6=H!!>ca5XM6H#adhxB(1a0U$LnyaFaSGrR(DH7+tZH841{0SsONAT=|*0wy;%yaI4FE;2bYFfh0Q3SI#qH8s2fCO2W"
    "c0&q1hGcYhYGPVH*UI8FAH@pHSH)Om504D%2I5;%00SI0JAT?pU0%ABZGYUL5$OaWL$Oa!S0RSuyQvm<}|NsC0|NsC0|NsC0|N"
    "sC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|NsC0|2GdDPXGV^|NsBBP<S{oGYS"
)


def _deflated(text: bytes, window_bits: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, window_bits)
    return packer.compress(text) + packer.flush()


PACKED = {
    "zlib": _deflated(TEXT, 12),  # pstore's own before Linux 4.6: WINDOW_BITS 12
    "deflate": _deflated(TEXT, -11),  # crypto/deflate.c
    "lzo": LZO,
    "lz4": LZ4,
    "zstd": zstandard.ZstdCompressor().compress(TEXT),
}


@pytest.mark.parametrize("algorithm", PACKED)
def test_whole_record(algorithm: str) -> None:
    opened = decompress(PACKED[algorithm])
    assert opened is not None
    assert (opened.text, opened.algorithm, opened.whole) == (TEXT, algorithm, True)


@pytest.mark.parametrize("algorithm", PACKED)
@pytest.mark.parametrize(
    "name", ["dmesg-erst-7711745760018038785", "dmesg-efi_pstore-179500000000001", "dmesg-ramoops-0"]
)
def test_record_in_a_store_is_opened_and_its_algorithm_named(
    algorithm: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / f"{name}.enc.z").write_bytes(PACKED[algorithm])
    (record,) = pstore.read(tmp_path)
    assert [(part.was, part.blob.content()) for part in record.parts] == [(algorithm, TEXT)]
    assert record.reason == "Panic"


@pytest.mark.parametrize("algorithm", ["zlib", "deflate", "lzo", "lz4"])  # a zstd block comes whole or not
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_cut_record_gives_what_stands_before_the_cut(algorithm: str, share: float) -> None:
    packed = PACKED[algorithm]
    opened = decompress(packed[: int(len(packed) * share)])
    assert opened is not None
    assert opened.algorithm == algorithm
    assert not opened.whole or algorithm == "lz4"  # which has no end mark
    assert TEXT.startswith(opened.text)
    assert len(opened.text) > 200


@pytest.mark.parametrize("algorithm", ["zlib", "deflate", "lzo"])
def test_correction_notice_of_ramoops_after_the_data_does_no_harm(algorithm: str) -> None:
    opened = decompress(PACKED[algorithm] + b"\n0 Corrected bytes, 0 unrecoverable blocks\n")
    assert opened is not None
    assert (opened.text, opened.whole) == (TEXT, True)


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        # 22..255: literals; 17 0 0: the end
        (bytes([17 + 14]) + b"Oops#1 Part1\nx" + b"\x11\0\0", b"Oops#1 Part1\nx"),
        # after four or more literals 0..15: three bytes from 2049 and more back
        (
            bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 2049 + 13 - 255 * 8 - 18])
            + b"Oops#1 Part1\n"
            + b"abc"
            + b"z" * 2046
            + b"\0\0\x11\0\0",
            b"Oops#1 Part1\nabc" + b"z" * 2046 + b"abc",
        ),
        # after one to three literals 0..15: two bytes from close by
        (bytes([17 + 13]) + b"Oops#1 Part1\n" + b"\x41\0q" + b"\0\0\x11\0\0", b"Oops#1 Part1\n\n\n\nqqq"),
    ],
    ids=["literals", "far-three", "near-two"],
)
def test_instructions_of_lzo_that_compressors_seldom_write(stream: bytes, text: bytes) -> None:
    opened = decompress(stream)
    assert opened is not None
    assert opened.algorithm == "lzo"
    assert (opened.text, opened.whole) == (text, True)


def test_record_with_a_damaged_first_line_is_still_text() -> None:
    opened = decompress(_deflated(TEXT[8:], -11))
    assert opened is not None
    assert opened.text == TEXT[8:]


def test_what_nothing_opens_is_not_opened() -> None:
    assert decompress(bytes(range(256)) * 8) is None
    assert decompress(b"") is None


def test_bomb_is_bounded() -> None:
    for packed in (_deflated(b"Oops#1 Part1\n" + bytes(64 << 20), -15), _bomb_lzo(), _bomb_lz4()):
        opened = decompress(packed)
        assert opened is not None
        assert len(opened.text) <= LIMIT_BYTES
        assert not opened.whole


def _bomb_lzo() -> bytes:
    return bytes([17 + 13]) + b"Oops#1 Part1\n" + (b"\x20" + b"\0" * 60_000 + b"\x01\0\0") * 4 + b"\x11\0\0"


def _bomb_lz4() -> bytes:
    return b"\xdf" + b"Oops#1 Part1\n" + b"\x01\0" + (b"\xff" * 60_000 + b"\0" + b"\x0f\x01\0") * 4


@given(st.binary(max_size=600))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    decompress(data)


@given(st.sampled_from(sorted(PACKED)), st.integers(0, 2000), st.integers(0, 255), st.integers(0, 2000))
def test_no_damage_makes_it_fail(algorithm: str, at: int, byte: int, cut: int) -> None:
    packed = bytearray(PACKED[algorithm])
    packed[at % len(packed)] = byte
    opened = decompress(bytes(packed[: max(1, cut % len(packed))]))
    assert opened is None or len(opened.text) <= LIMIT_BYTES
