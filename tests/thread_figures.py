"""The names of ``tests.support.thread_figures``, for imports that are older than it."""

from __future__ import annotations

from tests.support.thread_figures import ThreadFigures as ThreadFigures
