// The staff's status page: four charts fed by one WebSocket.

import { Chart } from "./chart.js";
import { watch } from "./connection.js";
import { Socket, whetherSignedIn } from "./socket.js";

const figure = (name) => document.querySelector(`[data-chart="${name}"]`);
const charts = {
  connections: new Chart(figure("connections"), { label: "Open connections" }),
  messages: new Chart(figure("messages"), { label: "Messages a second" }),
  latency: new Chart(figure("latency"), { label: "Latency in milliseconds" }),
  minutes: new Chart(figure("minutes"), { kind: "bar", label: "Messages a minute" }),
};
const socket = new Socket("/ws/status/", { probe: whetherSignedIn("/status/") });
const handlers = {
  welcome(frame) { charts.minutes.set(frame.messages_per_minute); socket.ping(); },
  figures: show,
};
socket.addEventListener("frame", ({ detail }) => handlers[detail.type]?.(detail));

function show(frame) {
  charts.connections.push([frame.connections]);
  charts.messages.push([frame.messages_per_second]);
  const roundTrip = socket.roundTrip === undefined ? null : Number(socket.roundTrip.toFixed(1));
  charts.latency.push([roundTrip, frame.layer_ms, frame.database_ms]);
  value("connections", frame.connections);
  value("messages", frame.messages_per_second);
  if (frame.tasks) {
    const { ready, running, failed, done } = frame.tasks;
    value("tasks", `${ready + running}`);
    figure("tasks").querySelector("[data-note]").textContent = `${running} running, ${done} done, ${failed} failed for good`;
  }
  value("latency", [roundTrip ?? "–", frame.layer_ms, frame.database_ms].join(" / "));
  figure("connections").querySelector("[data-note]").textContent = `${frame.people} ${frame.people === 1 ? "person" : "people"} signed in`;
  socket.ping();
}

function value(name, text) { figure(name).querySelector("[data-value]").textContent = text; }

watch(socket);
socket.open();
