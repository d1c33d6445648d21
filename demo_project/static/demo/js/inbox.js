// The bell and the unread counts of the rooms, over one WebSocket for each page.

import { watch } from "./connection.js";
import { element, formatMoment } from "./dom.js";
import { Socket, whetherSignedIn } from "./socket.js";

const LIST_SIZE = 20;
const TOAST_MS = 6000;
const TITLE = document.title;

export function startInbox() {
  const socket = new Socket("/ws/inbox/", { probe: whetherSignedIn("/notifications/") });
  const bell = new Bell(socket);
  const counts = new UnreadCounts();
  const handlers = {
    welcome: (frame) => { bell.reset(frame); counts.reset(frame.rooms); },
    pong: (frame) => { bell.reset(frame); counts.reset(frame.rooms); },
    "notification.new": (frame) => bell.add(frame),
    "notification.read": (frame) => bell.read(frame),
    "room.activity": (frame) => counts.activity(frame),
    "room.read": (frame) => counts.read(frame),
  };
  socket.addEventListener("frame", ({ detail }) => handlers[detail.type]?.(detail));
  watch(socket);
  socket.open();
}

class Bell {
  constructor(socket) {
    this.socket = socket;
    this.notes = [];
    this.unread = 0;
    this.button = document.getElementById("bell-button");
    this.panel = document.getElementById("bell-panel");
    this.list = document.getElementById("bell-list");
    this.count = document.getElementById("bell-count");
    this.button.setAttribute("role", "button");
    this.button.setAttribute("aria-expanded", "false");
    this.button.addEventListener("click", (event) => { event.preventDefault(); this.toggle(this.panel.hidden); });
    this.button.addEventListener("keydown", (event) => {
      if (event.key === " ") { event.preventDefault(); this.toggle(this.panel.hidden); }
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.panel.hidden) { this.toggle(false); this.button.focus(); }
    });
    document.addEventListener("click", (event) => {
      if (!event.target.closest("#bell")) this.toggle(false);
    });
  }

  reset({ notes, unread }) {
    const newest = this.notes[0]?.serial;
    // What came while this page was away is said like what comes while it is here.
    if (newest !== undefined) notes.filter((note) => note.serial > newest && !note.is_read).forEach(toast);
    this.notes = notes;
    this.show(unread);
  }

  add({ note, unread }) {
    if (this.notes.some((known) => known.serial === note.serial)) return;
    this.notes = [note, ...this.notes].sort((a, b) => b.serial - a.serial).slice(0, LIST_SIZE);
    this.show(unread);
    toast(note);
    if (!this.panel.hidden) this.markRead();
  }

  read({ up_to: upTo, unread }) {
    for (const note of this.notes) if (note.serial <= upTo) note.is_read = true;
    this.show(unread);
  }

  toggle(open) {
    this.panel.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (open) this.markRead();
  }

  markRead() {
    if (this.unread && this.notes.length) this.socket.send("mark_read", { up_to: this.notes[0].serial });
  }

  show(unread) {
    this.unread = unread;
    this.count.hidden = !unread;
    this.count.textContent = unread > 99 ? "99+" : unread;
    this.button.setAttribute("aria-label", unread ? `Notifications, ${unread} unread` : "Notifications");
    document.title = unread ? `(${unread}) ${TITLE}` : TITLE;
    document.getElementById("bell-empty").hidden = this.notes.length > 0;
    this.list.replaceChildren(...this.notes.map(noteItem));
  }
}

function noteItem(note) {
  const tag = note.url ? "a" : "span";
  const body = element(tag, { textContent: note.text });
  if (note.url) body.href = note.url;
  body.append(element("small", { textContent: formatMoment(new Date(note.created_at)) }));
  return element("li", { className: note.is_read ? "" : "unread" }, body);
}

function toast(note) {
  const tag = note.url ? "a" : "p";
  const node = element(tag, { className: "toast", textContent: note.text });
  if (note.url) node.href = note.url;
  document.getElementById("toasts").append(node);
  setTimeout(() => node.remove(), TOAST_MS);
}

class UnreadCounts {
  constructor() {
    this.rooms = {};
  }

  reset(rooms) {
    this.rooms = rooms;
    for (const link of document.querySelectorAll("[data-room]")) {
      this.show(link.dataset.room, rooms[link.dataset.room]?.unread ?? 0);
    }
  }

  activity({ slug, position }) {
    const room = this.rooms[slug] ??= { unread: 0, version: 0 };
    // The count that came last may hold this message already.
    if (position <= room.version) return;
    room.version = position;
    // Whoever looks at the room reads it, and is told so by room.read.
    if (isReading(slug)) return;
    room.unread += 1;
    this.show(slug, room.unread);
  }

  read({ slug, position }) {
    const room = this.rooms[slug] ??= { unread: 0, version: 0 };
    if (position < room.version) return;
    room.unread = 0;
    this.show(slug, 0);
  }

  show(slug, unread) {
    const badge = document.querySelector(`[data-room="${CSS.escape(slug)}"] .badge`);
    if (!badge) return;
    badge.hidden = !unread;
    badge.replaceChildren(String(unread), element("span", { className: "visually-hidden", textContent: " unread" }));
  }
}

function isReading(slug) {
  return !document.hidden && document.getElementById("room")?.dataset.slug === slug;
}
