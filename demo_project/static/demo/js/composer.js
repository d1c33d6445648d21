// The form at the bottom of a room.

import { Mentions } from "./mentions.js";
import { Uploads } from "./uploads.js";

const TYPING_MS = 2500;

export class Composer {
  constructor({ form, room, people, onSend, onTyping }) {
    this.form = form;
    this.field = form.querySelector("textarea");
    this.error = document.getElementById("composer-error");
    this.onSend = onSend;
    this.onTyping = onTyping;
    this.typedAt = 0;
    this.uploads = new Uploads({
      list: document.getElementById("uploads"),
      url: room.uploadUrl,
      limit: Number(room.uploadLimit),
      report: (text) => this.report(text),
    });
    new Mentions(this.field, document.getElementById("suggestions"), people);
    this.listen();
  }

  listen() {
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    this.field.addEventListener("input", () => { this.fit(); this.typing(); });
    this.field.addEventListener("keydown", (event) => this.key(event));
    this.field.addEventListener("paste", (event) => {
      if (!event.clipboardData.files.length) return;
      event.preventDefault();
      this.attach(event.clipboardData.files);
    });
    const picker = document.getElementById("file");
    picker.addEventListener("change", () => { this.attach([...picker.files]); picker.value = ""; });
    this.acceptDrops(document.querySelector(".conversation"));
  }

  acceptDrops(zone) {
    const mark = (on) => this.form.classList.toggle("dragging", on);
    zone.addEventListener("dragover", (event) => { event.preventDefault(); mark(true); });
    zone.addEventListener("dragleave", () => mark(false));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      mark(false);
      this.attach(event.dataTransfer.files);
    });
  }

  key(event) {
    // On a touch keyboard Enter is the only way to a new line.
    const touch = matchMedia("(pointer: coarse)").matches;
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || touch) return;
    event.preventDefault();
    this.submit();
  }

  submit() {
    const text = this.field.value.trim();
    if (this.uploads.isBusy) return this.report("A file is still on its way.");
    const files = this.uploads.take();
    if (!text && !files.length) return;
    this.report("");
    this.field.value = "";
    this.fit();
    this.onSend(text, files);
  }

  attach(files) {
    this.report("");
    this.uploads.add(files);
    this.field.focus();
  }

  typing() {
    const now = Date.now();
    if (!this.field.value || now - this.typedAt < TYPING_MS) return;
    this.typedAt = now;
    this.onTyping();
  }

  fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }

  report(text) {
    this.error.textContent = text;
    this.error.hidden = !text;
  }
}
