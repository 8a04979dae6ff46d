// The controls and the picture of firstcnn.figures.moving.MovingFigure, made of the browser's own
// elements. The kernel draws; here choices are sent to it, and its frames are shown.

const PAUSE = 120; // milliseconds for which Play shows a frame at least

function create(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function render({ model, el }) {
  const choose = (changed) => {
    model.set("choices", { ...model.get("choices"), ...changed });
    model.save_changes();
  };

  const makeControl = ({ name, slide }) => {
    const input = slide ? create("input", { type: "range", min: 0 }) : create("select");
    // JupyterLab would take the arrow keys for commands of its own; Ctrl-S is still left to it.
    const keepKeys = ({ ctrlKey, metaKey }) =>
      input.toggleAttribute("data-lm-suppress-shortcuts", !ctrlKey && !metaKey);
    keepKeys({});
    input.addEventListener("keydown", keepKeys);
    input.addEventListener("keyup", keepKeys);
    const value = create("output");
    input.addEventListener(slide ? "input" : "change", () => {
      stop();
      choose({ [name]: Number(input.value) });
    });
    const label = create("label", {}, create("span", { textContent: name }), input);
    if (slide) label.append(value);
    const update = (options, chosen) => {
      if (slide) {
        input.max = options.length - 1;
        input.setAttribute("aria-valuetext", options[chosen]);
        value.textContent = options[chosen];
        // As wide as its longest text: the slider must keep its place while it is moved.
        value.style.minWidth = `${Math.max(...options.map((one) => one.length)) + 1}ch`;
      } else if (input.options.length !== options.length) {
        input.replaceChildren(...options.map((text, i) => new Option(text, i)));
      }
      input.value = chosen;
    };
    return { label, update };
  };

  const controls = new Map(model.get("controls").map((one) => [one.name, makeControl(one)]));
  const image = create("img");
  const words = create("p");
  words.setAttribute("aria-live", "polite");

  // Play moves the last of its controls on, and where that ends, the one before it.
  let timer = null;
  const plays = model.get("plays");
  const button = create("button", { type: "button", textContent: "Play" });
  const next = () => {
    const choices = { ...model.get("choices") };
    const options = new Map(model.get("controls").map((one) => [one.name, one.options]));
    for (const name of [...plays].reverse()) {
      if (choices[name] + 1 < options.get(name).length) {
        choices[name] += 1;
        return choices;
      }
      choices[name] = 0;
    }
    return null;
  };
  const stop = () => {
    clearTimeout(timer);
    timer = null;
    button.textContent = "Play";
  };
  const play = () => {
    const choices = next();
    if (choices) choose(choices);
    else stop();
  };
  button.addEventListener("click", () => {
    if (timer !== null) {
      stop();
      return;
    }
    timer = 0; // each frame that comes sets it anew
    button.textContent = "Pause";
    // From the end, it starts anew.
    choose(next() ?? Object.fromEntries(plays.map((name) => [name, 0])));
  });

  let address = null;
  const update = () => {
    const choices = model.get("choices");
    for (const { name, options } of model.get("controls")) {
      controls.get(name).update(options, choices[name]);
    }
    const old = address;
    address = URL.createObjectURL(new Blob([model.get("picture")], { type: "image/png" }));
    image.src = address;
    image.alt = words.textContent = model.get("words");
    if (old) URL.revokeObjectURL(old);
    if (timer !== null) timer = setTimeout(play, PAUSE);
  };
  model.on("change:frames", update);
  update();

  const bar = create(
    "div",
    { className: "firstcnn-controls" },
    ...[...controls.values()].map(({ label }) => label),
    ...(plays.length ? [button] : []),
  );
  el.classList.add("firstcnn-moving");
  el.append(
    bar,
    image,
    create("details", {}, create("summary", { textContent: "This figure in words" }), words),
  );

  return () => {
    stop();
    model.off("change:frames", update);
    URL.revokeObjectURL(address);
  };
}

export default { render };
