// Asks the module for a change, and shows what came of it, in the module's words.

const CONFIRM = {
  rollback: "Roll back the model? Inference returns to the model before, and does not try the present one again.",
};
const result = document.getElementById("control-result");
const controls = document.querySelectorAll("#control-section :is(button, input)");

function say(text, failed) {
  result.textContent = text;
  result.classList.toggle("wrong", failed);
}

// `aria-disabled` and not `disabled`: the keyboard keeps its place.
function busy(on) {
  controls.forEach((each) => each.setAttribute("aria-disabled", String(on)));
}

async function change(name, payload = {}) {
  if (controls[0].getAttribute("aria-disabled") === "true") return;
  if (CONFIRM[name] && !confirm(CONFIRM[name])) return;
  busy(true);
  say("Asking …", false);
  try {
    // Another site's page cannot send this header: its browser would first ask for permission.
    const headers = { "Content-Type": "application/json", "X-Twinship-Control": "1" };
    const answer = await fetch(`/control/${name}`, { method: "POST", headers, body: JSON.stringify(payload) });
    say(await answer.text(), !answer.ok);
  } catch {
    say("No connection to the dashboard module. Look at the page for whether it was done.", true);
  }
  busy(false);
}

for (const button of document.querySelectorAll("#control-section [data-change]")) {
  button.addEventListener("click", () => change(button.dataset.change));
}
document.getElementById("rate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  change("rate", { fps: Number(document.getElementById("fps").value) });
});
