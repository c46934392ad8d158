"""Verifies one stored line (`hops sig event`) with PyNaCl: python3 verify.py LINE"""
import base64, json, sys
from nacl.signing import VerifyKey

PT = b"application/vnd.afferent.event.v1+json"
hops, sig, event = sys.argv[1].encode().split(b" ", 2)
source = json.loads(event)["source"]
key = base64.b32decode(source.removeprefix("mesh:").upper())[:32]
signed = b"DSSEv1 %d %s %d %s" % (len(PT), PT, len(event), event)
VerifyKey(key).verify(signed, base64.urlsafe_b64decode(sig + b"=="))
print("good:", json.loads(event)["type"], "by", source.removeprefix("mesh:"))
