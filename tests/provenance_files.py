"""Makes image files that say something about their origin: signed by c2pa's own signer, or written by hand."""

import io
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import c2pa
import pillow_heif
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image
from PIL.PngImagePlugin import PngInfo

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, COMPOSITE, CAPTURED = (
    IPTC + name for name in ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "digitalCapture")
)
MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif", "TIFF": "image/tiff",
        "AVIF": "image/avif", "HEIF": "image/heif"}  # fmt: skip
SIGNED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "HEIF")


@dataclass(frozen=True)
class Signer:
    """A key, its certificate and the root that issued it, in PEM."""

    organisation: str
    key: bytes
    chain: bytes
    root: str


@cache
def signer(organisation: str, *, lasts_s: float = 10**6) -> Signer:
    """Makes a signer with a root of its own. Its certificate expires after `lasts_s` seconds."""
    now = datetime.now(UTC)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate(organisation + " Root", root_key.public_key(), organisation + " Root", root_key, None,
                        now - timedelta(days=100), now + timedelta(days=100))  # fmt: skip
    leaf = _certificate(organisation, key.public_key(), organisation + " Root", root_key, root_key.public_key(),
                        now - timedelta(days=60), now + timedelta(seconds=lasts_s))  # fmt: skip
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    root_pem = root.public_bytes(pem)
    return Signer(organisation, secret, leaf.public_bytes(pem) + root_pem, root_pem.decode())


def _certificate(
    subject: str,
    key: Any,
    issuer: str,
    issuer_key: Any,
    signed_by: Any,
    begin: datetime,
    end: datetime,
) -> x509.Certificate:
    is_root = signed_by is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(_usage(is_root=is_root), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    if not is_root:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by)
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(organisation: str) -> x509.Name:
    attributes = {NameOID.COMMON_NAME: organisation + " CN", NameOID.ORGANIZATION_NAME: organisation,
                  NameOID.COUNTRY_NAME: "US"}  # fmt: skip
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes.items()])


def _usage(*, is_root: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_root,
        key_cert_sign=is_root,
        crl_sign=is_root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def plain(kind: str, *, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    """Returns a drawn image in this format, without any metadata but what `options` for Pillow add."""
    file = io.BytesIO()
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(file, **options)
    else:
        image.save(file, kind, **options)
    return file.getvalue()


def signed(
    kind: str,
    by: Signer,
    *,
    source_type: str | None = GENERATED,
    action: str = "c2pa.created",
    parent: bytes | None = None,
    image: bytes | None = None,
    remote: str | None = None,
) -> bytes:
    """Returns a signed image. `parent` is an image from which it was made. With `remote`, it names only an address.

    `image` is what is signed. Without it, that is a small drawn image.
    """
    step: dict[str, Any] = {"action": action, "softwareAgent": {"name": "GPT-4o"}}
    if source_type:
        step["digitalSourceType"] = source_type
    manifest = {
        "claim_generator_info": [{"name": "Test Generator", "version": "1.2"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [step]}}],
    }
    builder = c2pa.Builder(manifest)
    if parent is not None:
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        builder.add_ingredient({"title": "parent", "relationship": "parentOf"}, MIME[kind], io.BytesIO(parent))
    if remote:
        builder.set_remote_url(remote)
        builder.set_no_embed()
    file = io.BytesIO()
    key = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", by.chain, by.key, None))
    builder.sign(key, MIME[kind], io.BytesIO(image or plain(kind)), file)
    return file.getvalue()


def xmp(**fields: str) -> bytes:
    """Returns an XMP packet. Names are written with two underscores: Iptc4xmpExt__DigitalSourceType."""
    texts = "".join(f"<{name.replace('__', ':')}>{value}</{name.replace('__', ':')}>" for name, value in fields.items())
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        f' xmlns:tiff="http://ns.adobe.com/tiff/1.0/">{texts}</rdf:Description></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()


def with_xmp(kind: str, packet: bytes) -> bytes:
    """Returns an image with this XMP packet."""
    if kind == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        return plain(kind, pnginfo=info)
    if kind == "TIFF":
        return plain(kind, tiffinfo={700: packet})
    return plain(kind, xmp=packet)


def with_texts(**texts: str) -> bytes:
    """Returns a PNG with these texts."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    return plain("PNG", pnginfo=info)


def with_exif(kind: str, tags: dict[int, Any], *, comment: str | None = None) -> bytes:
    """Returns an image with these EXIF tags. `comment` is its UserComment, in UTF-16 as programs write it."""
    exif = exif_of(tags)
    if comment is not None:
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\x00" + comment.encode("utf-16-be")
    return plain(kind, exif=exif)


def exif_of(tags: dict[int, Any]) -> Image.Exif:
    """Returns EXIF with these tags."""
    exif = Image.Exif()
    exif.update(tags)
    return exif


def with_iptc(**datasets: str) -> bytes:
    """Returns a JPEG with an IPTC block. The names are d110 for dataset 2:110 and so on."""
    block = b"".join(
        b"\x1c\x02" + bytes([int(name[1:])]) + struct.pack(">H", len(text.encode())) + text.encode()
        for name, text in datasets.items()
    )
    resource = b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(block)) + block + bytes(len(block) % 2)
    body = b"Photoshop 3.0\x00" + resource
    jpeg = plain("JPEG")
    return jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
