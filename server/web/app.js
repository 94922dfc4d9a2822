// The page: a form on one side, the requests of the last hour on the other.

import { html, render, useEffect, useState } from "./vendor/htm-preact.js";
import { ApiError, openapi } from "./api/calls.js";
import { persist } from "./api/events.js";
import { bodyOf, modelsOf, needsKey } from "./api/schema.js";
import { CodePanel } from "./code/panel.js";
import { Form, ModelChoice } from "./form/form.js";
import { Header, server, watchServer } from "./header.js";
import { lazy } from "./lazy.js";
import { linkTo, settingsIn } from "./link.js";
import { withPresentation } from "./models.js";
import { forgetEnded, isOpen, recall, requests, send } from "./requests/requests.js";
import { keep, read, useStore } from "./store.js";

const Card = lazy(() => import("./requests/card.js").then((module) => module.Card));

function App({ models, asksForKey }) {
  const [slug, setSlug] = useState(read("model", models[0].slug));
  const [values, setValues] = useState(read("values", {}));
  const [pictures, setPictures] = useState({});
  const [problem, setProblem] = useState(null);
  const [isSending, setSending] = useState(false);
  const [showsCode, setShowsCode] = useState(false);
  const model = models.find((each) => each.slug === slug) ?? models[0];
  const own = { values: values[model.slug] ?? {}, pictures: pictures[model.slug] ?? {} };
  const body = bodyOf(model, own.values);
  const chosen = Object.fromEntries(Object.entries(own.pictures).filter(([, picture]) => picture));

  const choose = (next) => {
    setSlug(next);
    setProblem(null);
    keep("model", next);
  };
  const fill = (next, nextValues, nextPictures) => {
    choose(next);
    setValues((all) => {
      const changed = { ...all, [next]: nextValues };
      keep("values", changed);
      return changed;
    });
    if (nextPictures) setPictures((all) => ({ ...all, [next]: nextPictures }));
  };
  const toForm = () => document.querySelector(".make")?.scrollIntoView({ block: "start" });
  const submit = async (target, targetBody, targetPictures) => {
    setSending(true);
    setProblem(null);
    try {
      await send(target, targetBody, targetPictures);
      showNewest();
    } catch (error) {
      const message = error instanceof ApiError ? error.message : "The server is not reached. Try again.";
      setProblem({ message, fields: error.fields ?? {} });
    }
    setSending(false);
  };
  const use = (request) => {
    fill(request.model, request.body, request.pictures);
    toForm();
  };
  const again = ({ model: target, body: { seed: _, ...targetBody }, pictures: targetPictures }) => {
    submit(target, targetBody, targetPictures);
  };
  const relight = (picture) => {
    const target = models.find((each) => each.slug === "ic-light");
    fill(target.slug, values[target.slug] ?? {}, { [target.subject]: picture });
    toForm();
  };

  useEffect(() => {
    const restore = () => {
      const found = settingsIn(location.hash, models);
      if (!found) return;
      fill(found.slug, found.values);
      // The same link may be entered again, and what is changed from here on survives a reload.
      history.replaceState(null, "", location.pathname + location.search);
    };
    restore();
    addEventListener("hashchange", restore);
    return () => removeEventListener("hashchange", restore);
  }, []);

  return html`
    <${Header} needsKey=${asksForKey} />
    <main>
      <section class="left" aria-label="Make a picture">
        <${ModelChoice} models=${models} slug=${model.slug} onChange=${choose} />
        <${WeightsNote} slug=${model.slug} />
        <${Form}
          key=${model.slug}
          model=${model}
          values=${own.values}
          pictures=${own.pictures}
          problem=${problem}
          isSending=${isSending}
          onValues=${(next) => fill(model.slug, next)}
          onPictures=${(next) => setPictures({ ...pictures, [model.slug]: next })}
          onSubmit=${() => submit(model.slug, body, chosen)}
        />
        <details class="api" onToggle=${(event) => setShowsCode(event.target.open)}>
          <summary>Code for these settings</summary>
          ${showsCode && html`<${CodePanel} model=${model} body=${body} pictures=${chosen} needsKey=${asksForKey} link=${linkTo(model, body)} />`}
        </details>
      </section>
      <${Requests} models=${models} asksForKey=${asksForKey} onUse=${use} onAgain=${again} onRelight=${relight} />
    </main>
  `;
}

/** Scroll to the newest request where it is out of sight: on a phone it is below the form. */
function showNewest() {
  const heading = document.querySelector(".right > .heading");
  const { top, bottom } = heading.getBoundingClientRect();
  if (top < 0 || bottom > innerHeight) heading.scrollIntoView({ block: "start" });
}

/** Says plainly when a model has demo weights, and what to do. */
function WeightsNote({ slug }) {
  const { weights, note } = useStore(server).models[slug] ?? {};
  if (weights !== "demo" && weights !== "mixed") return null;
  return html`
    <aside class="note" aria-label="About the weights">
      <strong>Demo weights.</strong> ${note} <code>facelight weights fetch</code> brings the real ones.
    </aside>
  `;
}

function Requests({ models, asksForKey, onUse, onAgain, onRelight }) {
  const all = useStore(requests);
  const shown = all.flatMap((request) => {
    const model = models.find((each) => each.slug === request.model);
    return model ? [{ request, model }] : [];
  });
  return html`
    <section class="right" aria-label="Pictures">
      <div class="heading">
        <h2>Pictures</h2>
        ${all.some((each) => !isOpen(each)) && html`<button type="button" class="quiet" onClick=${forgetEnded}>Clear the list</button>`}
      </div>
      <p role="status" class="announced">${announcement(all[0])}</p>
      ${shown.length === 0 && html`
        <div class="empty">
          <p><strong>Your pictures appear here.</strong></p>
          <p>Drop a photo, or use the sample, say what light or style you want, and press the button.</p>
          <p>They are kept for an hour; this list is remembered by this browser alone.</p>
        </div>
      `}
      ${shown.map(
        ({ request, model }) => html`
          <${Card} key=${request.number} request=${request} model=${model} needsKey=${asksForKey}
            onUse=${onUse} onAgain=${onAgain} onRelight=${onRelight} />
        `,
      )}
    </section>
  `;
}

/** What a screen reader is told of the newest request: its states, not its steps. */
function announcement(request) {
  if (!request) return "";
  const told = {
    SENDING: "The request is being sent.",
    QUEUED: "The request waits.",
    PROCESSING: "A worker is at it.",
    COMPLETED: "The picture is ready.",
    FAILED: `The request has failed: ${request.error}`,
  };
  return told[request.state] ?? "";
}

async function start() {
  const page = document.getElementById("app");
  const lost = () => (page.textContent = "The server is not reached. Trying again…");
  const description = await persist(openapi, lost);
  recall();
  watchServer();
  page.replaceChildren();
  render(html`<${App} models=${withPresentation(modelsOf(description))} asksForKey=${needsKey(description)} />`, page);
}

start();
