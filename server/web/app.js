// The page: a form on one side, the requests of the last hour on the other.

import { html, render, useEffect, useState } from "./vendor/htm-preact.js";
import { ApiError, openapi } from "./api/calls.js";
import { persist } from "./api/events.js";
import { bodyOf, modelsOf, needsKey } from "./api/schema.js";
import { CodePanel } from "./code/panel.js";
import { Form, ModelChoice } from "./form/form.js";
import { Header, server, watchServer } from "./header.js";
import { linkTo, settingsIn } from "./link.js";
import { withPresentation } from "./models.js";
import { Requests } from "./requests/list.js";
import { recall, send } from "./requests/requests.js";
import { keep, read, useStore } from "./store.js";

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
  const put = (next, nextValues) => {
    setValues((all) => {
      const changed = { ...all, [next]: nextValues };
      keep("values", changed);
      return changed;
    });
  };
  const fill = (next, nextValues, nextPictures) => {
    choose(next);
    put(next, nextValues);
    if (nextPictures) setPictures((all) => ({ ...all, [next]: nextPictures }));
  };
  /** What is wrong with other fields still is when some are changed. */
  const correct = (before, after) => {
    if (!problem) return;
    const left = Object.entries(problem.fields).filter(([name]) => before[name] === after[name]);
    setProblem(left.length > 0 ? { ...problem, fields: Object.fromEntries(left), isSeen: true } : null);
  };
  const edit = (next) => {
    correct(own.values, next);
    put(model.slug, next);
  };
  const take = (next) => {
    correct(own.pictures, next);
    setPictures({ ...pictures, [model.slug]: next });
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
          onValues=${edit}
          onPictures=${take}
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
  const { top } = heading.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) heading.scrollIntoView({ block: "start" });
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
