// Reads the server-sent events, and says so if they stop.

import { draw } from "./render.js";

const SILENT_MS = 4000; // the server sends a view at least once a second
const RETRY_MS = 2000;
const link = document.getElementById("link");
const hold = document.getElementById("hold");
let source;
let heard = Date.now();
let newest = null;
let restarted = "";

function say(text, lost) {
  if (link.textContent === text) return;
  link.textContent = text;
  link.classList.toggle("lost", lost);
}

function connect() {
  source = new EventSource("/events");
  source.onmessage = (event) => {
    heard = Date.now();
    const before = newest;
    newest = JSON.parse(event.data);
    if (before && before.process !== newest.process) {
      restarted = ` · the dashboard module was restarted at ${new Date().toLocaleTimeString("en-GB")}`;
    }
    say((newest.connected ? "Live" : "No connection to edgeHub") + restarted, !newest.connected);
    if (!held()) draw(newest);
  };
  source.onerror = () => {
    say("No connection to the dashboard module. Trying again …", true);
    source.close();
    setTimeout(connect, RETRY_MS);
  };
}

const held = () => hold.getAttribute("aria-pressed") === "true";

hold.addEventListener("click", () => {
  hold.setAttribute("aria-pressed", String(!held()));
  hold.textContent = held() ? "Go on" : "Hold the page";
  if (!held() && newest) draw(newest);
});

setInterval(() => {
  if (Date.now() - heard > SILENT_MS && source.readyState === EventSource.OPEN) source.onerror();
}, 1000);

connect();
