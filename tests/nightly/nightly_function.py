"""A raster function that misbehaves at tiles that a file beside the raster names; packaged by the nightly tests.

The file ``fault.json``: {"kind": ..., "tiles": [numbers of calls by place], "times": how often in a job}.
"""

import ctypes
import json
import os
import signal
import time


class Faulty:
    def __init__(self):
        self.name, self.description = "Faulty", "Bright or dark, or worse"

    def initialize(self, **kwargs):
        if "model" in kwargs:
            with open(kwargs["model"]) as file:
                self.json_info = json.load(file)

    def getParameterInfo(self):
        return [
            {"name": "raster", "dataType": "raster", "required": True},
            {"name": "model", "dataType": "string", "required": True},
            {"name": "fault", "dataType": "string", "value": ""},
        ]

    def getConfiguration(self, **scalars):
        self.fault = {}
        if scalars.get("fault"):
            with open(scalars["fault"]) as file:
                self.fault = json.load(file)
        return {"extractBands": (0, 1, 2), "padding": 0, "tx": 256, "ty": 256, "fixedTileSize": 1, "inputMask": True}

    def updateRasterInfo(self, **kwargs):
        kwargs["output_info"]["bandCount"] = 1
        kwargs["output_info"]["pixelType"] = "u1"
        return kwargs

    def updatePixels(self, tlc, shape, props, **pixelBlocks):
        pixels = pixelBlocks["raster_pixels"]
        # The scene carries the number of each tile in its first pixel (red * 256 + green).
        number = int(pixels[0, 0, 0]) * 256 + int(pixels[1, 0, 0])
        if self.fault.get("tiles") == "all" or number in self.fault.get("tiles", ()):
            self.misbehave(self.fault["kind"])
        pixelBlocks["output_pixels"] = ((pixels.mean(0) > 90) + 1).astype("u1")[None]
        return pixelBlocks

    def misbehave(self, kind):
        folder = os.environ["TMPDIR"]
        times = self.fault.get("times", 10**9)
        if times < 10**9:
            for number in range(times):
                try:
                    os.close(os.open(os.path.join(folder, f"fault-{number}"), os.O_CREAT | os.O_EXCL))
                    break
                except FileExistsError:
                    continue
            else:
                return
        if kind == "abort":
            os.abort()
        elif kind == "segfault":
            ctypes.string_at(0)
        elif kind.startswith("exit"):
            os._exit(int(kind[4:]))
        elif kind == "sleep":
            time.sleep(600)
        elif kind == "native":
            ctypes.PyDLL(None).sleep(600)
        elif kind == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif kind == "fifo":
            path = os.path.join(folder, f"fifo{os.getpid()}")
            os.mkfifo(path)
            os.open(path, os.O_RDONLY)
        elif kind == "memory":
            self.much = b"x" * self.fault["bytes"]
        elif kind == "leak":
            self.kept = getattr(self, "kept", [])
            self.kept.append(b"x" * self.fault["bytes"])
        elif kind == "chatter":
            os.write(2, b"e" * 99 * 10**6 + b"\n")
            print("o" * 10**7)
            os.write(1, bytes(range(256)) * 1000)
            for _ in range(1000):
                arcpy.AddMessage("m" * 100000)  # noqa: F821 - the host provides the name
        elif kind == "slow":
            time.sleep(self.fault["seconds"])
        elif kind == "cuda":
            # What PyTorch raises when the context is lost (RuntimeError and its child torch.AcceleratorError alike).
            raise RuntimeError(
                "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously "
                "reported at some other API call"
            )
        elif kind == "out_of_memory":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        else:
            raise ValueError(kind)
