"""Write the digests that a version of the contract adds, made by the reference loops alone.

Run it for a new version of the contract, never to make a test pass.
"""

import json
from pathlib import Path

import gdcore
from gdcore import _core
from gdcore.selftest import cases_of, digest

_core.set_isa("reference")
frozen = {what: digest(run()) for what, run in cases_of(_core.NUMERICS)}
target = Path(gdcore.__file__).parent / f"numerics_v{_core.NUMERICS}.json"
target.write_text(json.dumps(frozen, indent=0) + "\n")
print(f"{len(frozen)} digests in {target}")
