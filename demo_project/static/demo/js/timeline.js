// The list of messages: puts each in its place, whatever order they come in.

import { element, formatDay, formatTime } from "./dom.js";

const GROUP_MS = 5 * 60 * 1000;
const NEAR_BOTTOM = 80;

export class Timeline {
  constructor({ viewport, list, me, isOwner, canPost }) {
    this.viewport = viewport;
    this.list = list;
    this.me = me;
    this.isOwner = isOwner;
    this.canPost = canPost;
    for (const item of this.items()) this.prepare(item);
    this.group();
  }

  items() { return [...this.list.querySelectorAll(":scope > .message[data-id]")]; }
  oldest() { return this.items()[0]; }
  newestPosition() { return Number(this.items().at(-1)?.dataset.position ?? 0); }
  isAtBottom() {
    const { scrollHeight, scrollTop, clientHeight } = this.viewport;
    return scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM;
  }
  scrollToBottom() { this.viewport.scrollTop = this.viewport.scrollHeight; }

  // Add a message or replace what is shown of it. Returns whether it was new.
  put(message, { hasOlder }) {
    const known = document.getElementById(`message-${message.id}`);
    if (known && Number(known.dataset.version) >= message.version) return false;
    const item = parse(message.html);
    this.prepare(item);
    this.list.querySelector(`.pending[data-nonce="${CSS.escape(message.nonce)}"]`)?.remove();
    if (known) {
      if (known.querySelector(".edit-form")) return false;
      known.replaceWith(item);
    } else {
      const next = this.items().find((other) => Number(other.dataset.position) > message.position);
      // A change to a message that is above what has been loaded: it comes with its page.
      if (next && next === this.oldest() && hasOlder) return false;
      this.list.insertBefore(item, next ?? this.list.querySelector(":scope > .pending"));
    }
    this.group();
    return !known;
  }

  // Add a page of older messages on top and keep what is read where it is.
  prepend(messages) {
    const before = this.viewport.scrollHeight - this.viewport.scrollTop;
    const items = messages.filter(({ id }) => !document.getElementById(`message-${id}`)).map(({ html }) => parse(html));
    items.forEach((item) => this.prepare(item));
    this.list.prepend(...items);
    this.group();
    this.viewport.scrollTop = this.viewport.scrollHeight - before;
  }

  replaceAll(messages) {
    const pending = [...this.list.querySelectorAll(":scope > .pending")];
    const items = messages.map(({ html }) => parse(html));
    items.forEach((item) => this.prepare(item));
    this.list.replaceChildren(...items, ...pending);
    this.group();
    this.scrollToBottom();
  }

  addPending({ nonce, text, names = [] }) {
    const state = element("span", { className: "send-state", textContent: "Sending…" });
    const body = element("div", { className: "text", dir: "auto", textContent: text });
    const files = names.map((name) => element("span", { className: "file", textContent: name }));
    const main = element("div", { className: "message-main" }, body, ...files, state);
    const item = element("li", { className: "message pending", "data-nonce": nonce }, element("span"), main);
    this.list.append(item);
    this.scrollToBottom();
  }

  markPending(nonce, text, failed) {
    const item = this.list.querySelector(`.pending[data-nonce="${CSS.escape(nonce)}"]`);
    if (!item) return null;
    item.classList.toggle("failed", failed);
    item.querySelector(".send-state").textContent = text;
    return item;
  }

  markUnread(readPosition) {
    const first = this.items().find(({ dataset }) =>
      Number(dataset.position) > readPosition && dataset.author !== this.me);
    if (!first) return;
    first.before(element("li", { className: "new-line", textContent: "New" }));
    this.group();
  }

  prepare(item) {
    const date = new Date(item.querySelector("time").dateTime);
    item.querySelector("time").textContent = formatTime(date);
    const own = item.dataset.author === this.me;
    show(item, "edit", own && this.canPost);
    show(item, "delete", (own && this.canPost) || this.isOwner);
    const mentioned = [...item.querySelectorAll(".mention")].some((node) => node.dataset.user === this.me);
    item.classList.toggle("mentions-me", Boolean(this.me) && mentioned);
  }

  // Day lines, and one head for what the same person says in a row.
  group() {
    this.list.querySelectorAll(":scope > .day").forEach((node) => node.remove());
    let last = null;
    for (const item of this.items()) {
      const date = new Date(item.querySelector("time").dateTime);
      const isNewDay = !last || last.date.toDateString() !== date.toDateString();
      if (isNewDay) item.before(element("li", { className: "day", textContent: formatDay(date) }));
      const follows = !isNewDay && last.author === item.dataset.author && date - last.date < GROUP_MS
        && !item.previousElementSibling.matches(".new-line");
      item.classList.toggle("continued", follows);
      last = { author: item.dataset.author, date };
    }
  }
}

// The server escaped the text and rendered the rest; see chat/message.html.
function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html.trim();
  return template.content.firstElementChild;
}

function show(item, action, visible) {
  const button = item.querySelector(`[data-action="${action}"]`);
  if (button) button.hidden = !visible;
}
