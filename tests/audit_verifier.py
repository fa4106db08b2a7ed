"""A verifier of audit packages in 70 lines, written from docs/audit-package.md alone: it imports nothing of ours."""

import io
import json
import re
import struct
import zlib
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Any

import pyarrow.parquet as pq
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALL, KIND = 0xFFFFFFFF, "application/vnd.in-toto+json"


def compact(row: dict[str, Any]) -> bytes:
    plain = {
        key: one.isoformat(timespec="microseconds") if hasattr(one, "isoformat") else one for key, one in row.items()
    }
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def entry(package: bytes, at: int, name: str, records: list[bytes]) -> bytes:
    size, length = struct.unpack_from("<Q", package, at + 34 + len(name))[0], len(name)
    data = package[at + 50 + length :][:size]
    crc = zlib.crc32(data)
    fixed = struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 33, crc, ALL, ALL, length, 20)
    assert package.startswith(fixed + name.encode() + struct.pack("<2H2Q", 1, 16, size, size) + data, at)
    numbers = (813, 45, 0, 0, 0, 33, crc, ALL, ALL, length, 28, 0, 0, 0, 0x81A40000, ALL)
    extra = struct.pack("<2H3Q", 1, 24, size, size, at)
    records.append(struct.pack("<4s6H3I5H2I", b"PK\1\2", *numbers) + name.encode() + extra)
    return data


def check(package: bytes, key: Any) -> None:
    """Raises an error of any kind if something is in doubt."""
    at, held, names, records = 0, dict[str, bytes](), ["statement.dsse.json", "manifest.json"], list[bytes]()
    for name in names:  # the manifest adds the names that follow
        held[name] = entry(package, at, name, records)
        at += 50 + len(name) + len(held[name])
        names += [one["path"] for one in json.loads(held[name])["files"]] if name == "manifest.json" else []
    outer = json.loads(held["statement.dsse.json"])
    payload, signature = b64decode(outer["payload"]), b64decode(outer["signatures"][0]["sig"])
    key.verify(signature, b"DSSEv1 28 %b %d %b" % (KIND.encode(), len(payload), payload))
    keyid = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    again = {"payload": b64encode(payload).decode(), "payloadType": KIND}
    again["signatures"] = [{"keyid": keyid, "sig": b64encode(signature).decode()}]  # type: ignore[assignment]
    assert held["statement.dsse.json"] == compact(again)
    statement, sums = json.loads(payload), {name: sha256(data).hexdigest() for name, data in held.items()}
    assert compact(statement) == payload + b"\n"
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert statement["predicate"]["public_key"] == pem
    assert statement["predicateType"] == "urn:fakesweep:audit-package:v1"
    assert statement["subject"] == [{"name": name, "digest": {"sha256": sums[name]}} for name in names[1:]]
    others = names[2 + len(names[2:]) // 2 :]
    assert names[2:] == [*(f"digests/{name}" for name in others), *others]
    assert all(re.fullmatch(r"[a-z0-9_][\w.-]*(/[\w-][\w.-]*)*", name, re.ASCII) for name in others)
    for one in json.loads(held["manifest.json"])["files"]:
        assert (one["size"], one["sha256"]) == (len(held[one["path"]]), sums[one["path"]])
    size, n = sum(map(len, records)), len(records)
    end = struct.pack("<4sQ2H2I4Q4sIQI", b"PK\6\6", 44, 813, 45, 0, 0, n, n, size, at, b"PK\6\7", 0, at + size, 1)
    assert package[at:] == b"".join(records) + end + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, n, n, ALL, ALL, 0)
    for name in ("findings", "verdicts"):
        rows = pq.read_table(io.BytesIO(held[f"{name}.parquet"])).to_pylist()
        assert b"".join(map(compact, rows)) == held[f"{name}.jsonl"]
