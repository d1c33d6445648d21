// Files that wait to be sent with the next message, with the progress of each.

import { csrfToken, element } from "./dom.js";

const MOST = 4;

export class Uploads {
  constructor({ list, url, limit, report }) {
    this.list = list;
    this.url = url;
    this.limit = limit;
    this.report = report;
    this.files = [];
  }

  get isBusy() { return this.files.some(({ id }) => !id); }

  add(files) {
    for (const file of files) {
      if (this.files.length >= MOST) return this.report(`A message carries at most ${MOST} files.`);
      const megabytes = Math.floor(this.limit / 1048576);
      if (file.size > this.limit) this.report(`${file.name}: a file has at most ${megabytes} MB.`);
      else this.start(file);
    }
  }

  // The files that are up, and the list is empty again.
  take() {
    const files = this.files;
    this.files = [];
    this.list.replaceChildren();
    return files;
  }

  start(file) {
    const entry = { name: file.name, id: null, request: new XMLHttpRequest() };
    const progress = element("progress", { max: file.size || 1, value: 0, "aria-label": `Uploading ${file.name}` });
    const cancel = element("button", { type: "button", className: "tool", textContent: "×", "aria-label": `Remove ${file.name}` });
    entry.item = element("li", {}, element("span", { className: "upload-name", textContent: file.name }), cancel, progress);
    cancel.addEventListener("click", () => { entry.request.abort(); this.remove(entry); });
    this.files.push(entry);
    this.list.append(entry.item);
    this.transfer(entry, file, progress);
  }

  // fetch() cannot tell how much it has sent; this can.
  transfer(entry, file, progress) {
    const { request } = entry;
    request.upload.addEventListener("progress", ({ loaded }) => { progress.value = loaded; });
    request.addEventListener("load", () => this.finished(entry, progress));
    request.addEventListener("error", () => this.failed(entry, "the connection was lost."));
    const form = new FormData();
    form.append("file", file);
    request.open("POST", this.url);
    request.setRequestHeader("X-CSRFToken", csrfToken());
    request.send(form);
  }

  finished(entry, progress) {
    let answer = {};
    try { answer = JSON.parse(entry.request.responseText); } catch { /* not from the view */ }
    if (entry.request.status !== 201) return this.failed(entry, answer.detail ?? "the upload failed.");
    entry.id = answer.id;
    progress.value = progress.max;
    progress.setAttribute("aria-label", `${entry.name} is ready`);
  }

  failed(entry, detail) {
    this.remove(entry);
    this.report(`${entry.name}: ${detail}`);
  }

  remove(entry) {
    this.files = this.files.filter((other) => other !== entry);
    entry.item.remove();
  }
}
