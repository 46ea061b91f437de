"""Fault plan W1 and W2: workers killed at random moments and at each step of the protocol."""

from __future__ import annotations

import os
import random
import signal
import threading

import pytest
from nightly_models import pixel_job
from nightly_support import Host, Watch, scaled


def test_undisturbed(undisturbed, figure):
    figure("undisturbed job of 400 tiles, s", round(undisturbed[2], 1))
