"""A Django project like the one that startproject makes, and its few views."""

from __future__ import annotations
