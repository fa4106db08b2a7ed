"""What files say about their origin: over fifty files, over all states, formats and fields."""

import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests import provenance_files as files
from tests.provenance_files import CAPTURED, COMPOSITE, GENERATED, signed, signer, with_exif, with_iptc, with_texts
from worker.provenance import C2paState, Camera, Credentials, Generator, Iptc, Provenance
from worker.provenance.credentials import credentials_of, state_of
from worker.provenance.declares import declared, source_types
from worker.provenance.isolated import says_nothing
from worker.provenance.reading import read_with
from worker.provenance.says import Declared
from worker.provenance.trust import Kind, TrustList, trust_lists

LISTED, STRANGER = signer("Listed"), signer("Stranger")
FORMATS = files.SIGNED_FORMATS
XMP_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")
A1111 = (
    "a cat on a roof, masterpiece\nNegative prompt: dog\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 123, Size: 512x512, Model hash: abcdef12, Model: sdxl"
)
COMFY = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20, "cfg": 8, "sampler_name": "euler",
          "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a tree", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
}  # fmt: skip
LINKS = [[1, 4, 0, 3, 0, "MODEL"], [2, 6, 0, 3, 1, "CONDITIONING"], [3, 7, 0, 3, 2, "CONDITIONING"]]
NOVELAI = {"Software": "NovelAI", "Description": "a boat", "Source": "Stable Diffusion 81274D13",
           "Comment": json.dumps({"sampler": "k_euler", "steps": 28, "seed": 9, "scale": 11, "uc": "bad"})}  # fmt: skip
MIDJOURNEY = "a lighthouse --v 6 Job ID: 0f2c9b1e-7f3a-4c58-9a43-2d1c5e1b7f00"


@pytest.fixture(scope="module")
def read() -> Callable[[bytes, str], Provenance]:
    return read_with([TrustList("ours", Kind.SIGNERS, LISTED.root)])


def state(read: Callable[[bytes, str], Provenance], data: bytes, kind: str) -> C2paState:
    return read(data, kind).credentials.state


@pytest.mark.parametrize("kind", FORMATS)
class TestStates:
    def test_a_file_without_a_manifest_is_absent(self, read: Callable[[bytes, str], Provenance], kind: str) -> None:
        assert read(files.plain(kind), kind) == Provenance()

    def test_a_signer_on_the_list_is_trusted(self, read: Callable[[bytes, str], Provenance], kind: str) -> None:
        said = read(signed(kind, LISTED), kind).credentials
        assert (said.state, said.signer, said.claim_generator) == (C2paState.TRUSTED, "Listed", "Test Generator 1.2")
        assert (said.actions, said.source_types, said.software) == (("c2pa.created",), (GENERATED,), ("GPT-4o",))
        assert said.trust_list == "ours"
        assert not said.codes

    def test_a_signer_who_is_not_on_the_list_is_untrusted(
        self, read: Callable[[bytes, str], Provenance], kind: str
    ) -> None:
        said = read(signed(kind, STRANGER), kind).credentials
        assert (said.state, said.signer) == (C2paState.UNTRUSTED, "Stranger")
        assert said.codes == ("signingCredential.untrusted",)

    def test_without_a_list_an_intact_manifest_is_valid(self, kind: str) -> None:
        assert state(read_with([]), signed(kind, STRANGER), kind) is C2paState.VALID

    def test_a_file_whose_pixels_changed_is_invalid(self, read: Callable[[bytes, str], Provenance], kind: str) -> None:
        said = read(with_another_pixel(signed(kind, LISTED), kind), kind).credentials
        assert said.state is C2paState.INVALID
        assert any("Hash.mismatch" in code for code in said.codes)

    def test_a_damaged_manifest_is_unreadable(self, read: Callable[[bytes, str], Provenance], kind: str) -> None:
        data = bytearray(signed(kind, LISTED))
        at = data.index(b"jumb")
        data[at + 8 : at + 60] = bytes(52)
        said = read(bytes(data), kind).credentials
        assert said.state is C2paState.UNREADABLE
        assert said.detail


def with_another_pixel(data: bytes, kind: str) -> bytes:
    """Changes one bit of the pixels of a signed file. They are at the end of the file before the signature."""
    end = files.plain(kind)[-60:-20]
    changed = bytearray(data)
    changed[data.index(end) + 20] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_file_that_only_names_an_address_is_remote(read: Callable[[bytes, str], Provenance], kind: str) -> None:
    said = read(signed(kind, LISTED, remote="https://example.org/manifest.c2pa"), kind).credentials
    assert (said.state, said.detail) == (C2paState.REMOTE, "https://example.org/manifest.c2pa")


def test_a_manifest_whose_certificate_has_expired_since_is_invalid(read: Callable[[bytes, str], Provenance]) -> None:
    short = signer("Short", lasts_s=2)
    data = signed("JPEG", short)
    time.sleep(3.1)  # certificates end at a whole second, and this second still counts
    said = read_with([TrustList("short", Kind.SIGNERS, short.root)])(data, "JPEG").credentials
    assert said.state is C2paState.INVALID
    assert "signingCredential.expired" in said.codes


def test_the_actions_of_contained_manifests_are_listed_too(read: Callable[[bytes, str], Provenance]) -> None:
    parent = signed("JPEG", STRANGER, source_type=GENERATED)
    said = read(signed("JPEG", LISTED, parent=parent, action="c2pa.edited", source_type=None), "JPEG")
    assert "c2pa.edited" in said.credentials.actions
    assert said.credentials.source_types == (GENERATED,)
    assert declared(said) is Declared.GENERATED


@pytest.mark.parametrize(
    ("failures", "successes", "expected"),
    [
        ([], ["signingCredential.trusted"], C2paState.TRUSTED),
        ([], [], C2paState.VALID),
        (["signingCredential.untrusted"], [], C2paState.UNTRUSTED),
        (["cawg.x509.credential.untrusted"], ["signingCredential.trusted"], C2paState.TRUSTED),
        (["timeStamp.untrusted"], ["signingCredential.trusted"], C2paState.TRUSTED),
        (["cawg.ica.untrusted_issuer"], [], C2paState.VALID),
        (["assertion.dataHash.mismatch"], ["signingCredential.trusted"], C2paState.INVALID),
        (["assertion.dataHash.mismatch", "signingCredential.untrusted"], [], C2paState.INVALID),
        (["signingCredential.ocsp.revoked"], ["signingCredential.trusted"], C2paState.INVALID),
        (["a.code.of.tomorrow"], ["signingCredential.trusted"], C2paState.INVALID),
    ],
)
def test_the_codes_decide_about_the_state(failures: list[str], successes: list[str], expected: C2paState) -> None:
    active = {"failure": [{"code": one} for one in failures], "success": [{"code": one} for one in successes]}
    assert state_of({"activeManifest": active}) is expected


@pytest.mark.parametrize(("is_tampered", "types"), [(False, (GENERATED,)), (True, ())])
def test_what_an_image_was_made_from_changes_no_state_but_its_faults_are_listed(
    read: Callable[[bytes, str], Provenance], is_tampered: bool, types: tuple[str, ...]
) -> None:
    parent = signed("JPEG", STRANGER, source_type=GENERATED)
    parent = with_another_pixel(parent, "JPEG") if is_tampered else parent
    said = read(signed("JPEG", LISTED, parent=parent, action="c2pa.edited", source_type=None), "JPEG").credentials
    assert said.state is C2paState.TRUSTED
    assert "ingredient: signingCredential.untrusted" in said.codes
    assert ("ingredient: assertion.dataHash.mismatch" in said.codes) == is_tampered
    assert said.source_types == types


def test_a_manifest_that_no_other_one_names_says_nothing() -> None:
    manifests = {
        "active": {"assertions": [action_of(CAPTURED)], "ingredients": [{"active_manifest": "named"}]},
        "named": {"assertions": [action_of(COMPOSITE)]},
        "stranger": {"assertions": [action_of(GENERATED)]},
        "input": {"assertions": [action_of(GENERATED)]},
    }
    manifests["active"]["ingredients"] += [{"active_manifest": "input", "relationship": "inputTo"}]
    results: dict[str, Any] = {"activeManifest": {"failure": [], "success": []}}
    said = credentials_of({"active_manifest": "active", "manifests": manifests, "validation_results": results})
    assert said.source_types == (CAPTURED, COMPOSITE)


def action_of(source_type: str) -> dict[str, Any]:
    return {
        "label": "c2pa.actions.v2",
        "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": source_type}]},
    }


def test_the_comment_of_one_file_is_not_taken_for_another(read: Callable[[bytes, str], Provenance]) -> None:
    with_comment = with_exif("JPEG", {}, comment=A1111)
    without = with_exif("JPEG", {0x010F: "Canon"})
    for _ in range(100):
        assert read(with_comment, "JPEG").generator is not None
        assert read(without, "JPEG").generator is None


@pytest.mark.parametrize("comment", [b"ASCII\x00\x00\x00", b"UNICODE\x00", bytes(8)])
def test_a_comment_is_read_in_each_encoding(read: Callable[[bytes, str], Provenance], comment: bytes) -> None:
    text = A1111.encode("utf-16-le" if comment.startswith(b"UNICODE") else "utf-8")
    exif = files.exif_of({0x010F: "Canon"})  # Pillow leaves EXIF without a plain tag out of an AVIF
    exif.get_ifd(0x8769)[0x9286] = comment + text
    for kind in ("JPEG", "WEBP", "AVIF"):
        said = read(files.plain(kind, exif=exif), kind)
        assert said.generator is not None, kind
        assert said.generator.model == "sdxl"


def test_texts_after_the_pixels_of_a_png_are_read(read: Callable[[bytes, str], Provenance]) -> None:
    plain, text = files.plain("PNG"), with_texts(parameters=A1111)
    chunk = text[text.index(b"tEXt") - 4 : text.index(b"IDAT") - 4]
    end = plain.index(b"IEND") - 4
    said = read(plain[:end] + chunk + plain[end:], "PNG")
    assert said.generator is not None
    assert said.generator.model == "sdxl"


def test_a_credit_that_only_mentions_a_generator_declares_nothing(read: Callable[[bytes, str], Provenance]) -> None:
    packet = files.xmp(photoshop__Credit="Photo of Midjourney's office, AFP")
    said = read(files.with_xmp("JPEG", packet), "JPEG")
    assert said.generator is None
    assert declared(said) is None


@pytest.mark.parametrize(
    ("manifest", "iptc", "ai_system", "expected"),
    [
        ((GENERATED,), CAPTURED, None, Declared.GENERATED),
        ((GENERATED, CAPTURED), None, None, Declared.COMPOSITE),
        ((), COMPOSITE, "A System", Declared.COMPOSITE),
        ((), None, "A System", Declared.GENERATED),
        ((), files.IPTC + "humanEdits", None, None),
        ((), files.IPTC + "digitalArt", None, Declared.OTHER),
        ((), None, None, None),
    ],
)
def test_the_manifest_comes_before_iptc_and_a_source_type_before_ai_fields(
    manifest: tuple[str, ...], iptc: str | None, ai_system: str | None, expected: Declared | None
) -> None:
    credentials = Credentials(C2paState.UNTRUSTED, source_types=manifest)
    assert declared(Provenance(credentials, Iptc(source_type=iptc, ai_system=ai_system))) is expected


def test_an_invalid_manifest_gives_no_source_type() -> None:
    said = Provenance(Credentials(C2paState.INVALID, source_types=(GENERATED,)))
    assert source_types(said) == ()


@pytest.mark.parametrize("kind", XMP_FORMATS)
def test_iptc_fields_are_read_from_xmp(read: Callable[[bytes, str], Provenance], kind: str) -> None:
    packet = files.xmp(
        Iptc4xmpExt__DigitalSourceType=COMPOSITE,
        Iptc4xmpExt__AISystemUsed="A System",
        Iptc4xmpExt__AISystemVersionUsed="3.1",
        Iptc4xmpExt__AIPromptInformation="a dog, not a cat",
        Iptc4xmpExt__AIPromptWriterName="Ada",
        photoshop__Credit="An Agency",
    )
    said = read(files.with_xmp(kind, packet), kind).iptc
    assert said.source_type == COMPOSITE
    assert (said.ai_system, said.ai_system_version) == ("A System", "3.1")
    assert (said.ai_prompt, said.ai_prompt_writer, said.credit) == ("a dog, not a cat", "Ada", "An Agency")


@pytest.mark.parametrize(
    "form",
    [
        f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{GENERATED}"/>',
        f"<Iptc4xmpExt:DigitalSourceType><rdf:Bag><rdf:li>{GENERATED}</rdf:li></rdf:Bag></Iptc4xmpExt:DigitalSourceType>",
        f"<Iptc4xmpExt:DigitalSourcefileType>{GENERATED}</Iptc4xmpExt:DigitalSourcefileType>",
    ],
    ids=["resource", "list", "old name"],
)
def test_a_source_type_is_found_in_every_form_of_xmp(read: Callable[[bytes, str], Provenance], form: str) -> None:
    packet = files.xmp(dc__format="x").replace(b"<dc:format>x</dc:format>", form.encode())
    assert read(files.with_xmp("JPEG", packet), "JPEG").iptc.source_type == GENERATED


def test_a_source_type_is_found_as_an_attribute(read: Callable[[bytes, str], Provenance]) -> None:
    attribute = f'rdf:about="" Iptc4xmpExt:DigitalSourceType="{CAPTURED}"'
    packet = files.xmp().replace(b'rdf:about=""', attribute.encode())
    said = read(files.with_xmp("JPEG", packet), "JPEG")
    assert said.iptc.source_type == CAPTURED
    assert declared(said) is Declared.CAPTURED


def test_the_older_iptc_block_gives_the_credit(read: Callable[[bytes, str], Provenance]) -> None:
    said = read(with_iptc(d110="Made with Google AI"), "JPEG")
    assert said.iptc.credit == "Made with Google AI"
    assert said.generator == Generator("Google AI")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF", "AVIF"])
def test_a_camera_is_read_from_exif(read: Callable[[bytes, str], Provenance], kind: str) -> None:
    said = read(with_exif(kind, {0x010F: "Canon", 0x0110: "EOS R5"}), kind)
    assert said.camera == Camera("Canon", "EOS R5")
    assert declared(said) is None


@pytest.mark.parametrize(
    ("data", "kind", "name", "model", "prompt"),
    [
        (with_texts(parameters=A1111), "PNG", "AUTOMATIC1111", "sdxl", "a cat on a roof, masterpiece"),
        (with_exif("JPEG", {}, comment=A1111), "JPEG", "AUTOMATIC1111", "sdxl", "a cat on a roof, masterpiece"),
        (with_exif("WEBP", {}, comment=A1111), "WEBP", "AUTOMATIC1111", "sdxl", "a cat on a roof, masterpiece"),
        (with_texts(prompt=json.dumps(COMFY), workflow=json.dumps({"links": LINKS, "nodes": []})), "PNG", "ComfyUI",
         "v1-5.safetensors", "a tree"),
        (with_texts(prompt=json.dumps(COMFY)), "PNG", "ComfyUI", None, None),
        (with_texts(**NOVELAI), "PNG", "NovelAI", "Stable Diffusion", "a boat"),
        (with_texts(Description=MIDJOURNEY), "PNG", "Midjourney", None, "a lighthouse --v 6"),
        (files.with_xmp("JPEG", files.xmp(dc__description=MIDJOURNEY)), "JPEG", "Midjourney", None,
         "a lighthouse --v 6"),
        (with_exif("JPEG", {0x0131: "DALL-E 3"}), "JPEG", "DALL-E", None, None),
        (files.with_xmp("JPEG", files.xmp(xmp__CreatorTool="Adobe Firefly")), "JPEG", "Firefly", None, None),
    ],
    ids=["A1111 PNG", "A1111 JPEG", "A1111 WebP", "ComfyUI", "ComfyUI without workflow", "NovelAI", "Midjourney PNG",
         "Midjourney XMP", "DALL-E", "Firefly"],
)  # fmt: skip
def test_a_generator_is_known_by_its_parameters(
    read: Callable[[bytes, str], Provenance], data: bytes, kind: str, name: str, model: str | None, prompt: str | None
) -> None:
    said = read(data, kind)
    assert said.generator is not None
    assert (said.generator.name, said.generator.model, said.generator.prompt) == (name, model, prompt)
    assert declared(said) is Declared.GENERATED


def test_an_invalid_manifest_declares_nothing(read: Callable[[bytes, str], Provenance]) -> None:
    data = signed("JPEG", LISTED)
    assert declared(read(data, "JPEG")) is Declared.GENERATED
    assert declared(read(with_another_pixel(data, "JPEG"), "JPEG")) is None


@pytest.mark.parametrize(
    "packet",
    [
        b"<x",
        b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>',
        b"\xff\xfe\x00",
        b"<x>" * 100_000,
        b'<?xml version="1.0" encoding="nonsense"?><x/>',
    ],
    ids=["cut", "DTD", "bomb", "not text", "deep", "encoding"],
)
def test_hostile_xmp_is_a_fault_and_no_error(read: Callable[[bytes, str], Provenance], packet: bytes) -> None:
    said = read(files.plain("WEBP", xmp=packet), "WEBP")
    assert [fault.partition(":")[0] for fault in said.faults] == ["xmp"]


def test_texts_are_cut_and_can_be_stored(read: Callable[[bytes, str], Provenance]) -> None:
    said = read(with_exif("JPEG", {0x010F: "A\x00B" + "x" * 5000}), "JPEG")
    assert said.camera is not None
    assert said.camera.make.startswith("A")
    assert "\x00" not in said.camera.make
    assert len(said.camera.make) <= 200


def test_a_file_without_marks_says_nothing_and_one_with_marks_may() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        assert says_nothing(files.plain(kind), kind), kind
    for kind in ("JPEG", "PNG", "WEBP", "GIF"):
        assert not says_nothing(signed(kind, LISTED), kind), kind
    for kind in ("JPEG", "PNG", "WEBP"):
        assert not says_nothing(files.with_xmp(kind, files.xmp()), kind), kind
        assert not says_nothing(with_exif(kind, {0x010F: "Canon"}), kind), kind
    assert not says_nothing(with_iptc(d110="x"), "JPEG")
    assert not says_nothing(with_texts(a="b"), "PNG")


def test_the_shipped_lists_are_whole() -> None:
    signers, time_stamps = trust_lists()
    assert signers.certificates.count("BEGIN CERTIFICATE") == 30
    assert time_stamps.certificates.count("BEGIN CERTIFICATE") == 22
    read_with([signers, time_stamps])(signed("JPEG", STRANGER), "JPEG")


def test_mutated_files_raise_nothing(read: Callable[[bytes, str], Provenance]) -> None:
    """benchmarks/provenance.py tries many more."""
    chance = random.Random(7)
    whole = [(kind, signed(kind, LISTED)) for kind in ("JPEG", "PNG", "AVIF")]
    whole += [("PNG", with_texts(prompt=json.dumps(COMFY), workflow=json.dumps({"links": LINKS}))),
              ("JPEG", files.with_xmp("JPEG", files.xmp(photoshop__Credit="a")))]  # fmt: skip
    for _ in range(200):
        kind, data = chance.choice(whole)
        changed = bytearray(data)
        for _ in range(chance.randint(1, 20)):
            changed[chance.randrange(20, len(changed))] = chance.randrange(256)
        assert isinstance(read(bytes(changed), kind), Provenance)
