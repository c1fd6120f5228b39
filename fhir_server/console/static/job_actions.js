// The buttons of one job: retry, set aside, and its payload where somebody asks for it.
import { Refused, act, button, say } from "./common.js";

// `told(text, bad)` says what came of it, `renew()` draws anew; `show(job)` opens the payload.
export function jobActions(job, told, renew, show) {
  async function press(event, action, done, not) {
    const pressed = event.currentTarget;
    pressed.disabled = true;
    try {
      const answer = await act(`/console/jobs/${job.id}/${action}`);
      told(answer.done ? say(done, job.id) : say(not, job.id), !answer.done);
    } catch (fault) {
      told(fault instanceof Refused ? fault.text : say("lost"), true);
    }
    pressed.disabled = false;
    await renew();
  }
  const made = [];
  if (job.retry) made.push(button("retry", say("retry"), (event) => press(event, "retry", "retried", "not-retried")));
  if (job.aside) made.push(button("aside", say("set-aside"), (event) => press(event, "set-aside", "aside", "not-aside")));
  if (show) made.push(button("payload", say("payload"), () => show(job)));
  for (const one of made) one.setAttribute("aria-label", `${one.textContent} ${job.id}`);
  return made;
}
