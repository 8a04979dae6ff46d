// The drawing pad, in a page (page.js) and in JupyterLab (the default export, for anywidget).
// It needs nothing but this file and pad.css, and one function that reads a picture.

const SIDE = 280; // pixels of the picture that is read, whatever the screen
const LINE = 1 / 16; // the pen's width; it and all points are parts of the pad's side
const PAUSE = 125; // ms from one reading to the next while drawing
const RETRY = 1000; // ms until a reading is tried again that got no answer
const QUIET = 700; // ms without change before a screen reader hears the answer
const STEP = 1 / 40; // how far an arrow key moves the pen
const STRIDE = 1 / 10; // and with Shift
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const DIGITS = [...Array(10).keys()];

/** There was no answer, but there may be one later. */
export class NoAnswer extends Error {}

/**
 * Build a pad inside an element.
 *
 * read(blob) resolves to what firstcnn.app.reading.read returns, or rejects with a message for
 * people. Pictures may be dropped and pasted anywhere in `area`. Returns a function that takes
 * the pad down.
 */
export function createPad(root, read, { area = root, maxBytes = Infinity } = {}) {
  const id = `firstcnn-${Math.random().toString(36).slice(2)}`;
  root.classList.add("firstcnn-pad");
  root.innerHTML = template(id);
  const find = (name) => root.querySelector(`.${name}`);
  const paper = find("paper");
  const sheet = find("sheet");
  const pen = find("pen");
  const file = find("file");
  const end = new AbortController();
  const { signal } = end;
  const listen = (target, name, act) => target.addEventListener(name, act, { signal });

  // ---- what is on the paper ----

  let lines = []; // each a list of [x, y]
  let line = null; // the one that is being drawn
  let picture = null; // a file that was opened, and its pixels if the browser can show it
  let drawn = 0; // the frame in which the paper is painted next

  const isEmpty = () => !lines.length && !picture;

  function paint(canvas, side) {
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, side, side);
    if (picture?.pixels) {
      const { width, height } = picture.pixels;
      const scale = side / Math.max(width, height);
      context.drawImage(
        picture.pixels,
        (side - width * scale) / 2,
        (side - height * scale) / 2,
        width * scale,
        height * scale,
      );
    }
    context.lineWidth = side * LINE;
    context.lineCap = context.lineJoin = "round";
    for (const points of lines) {
      context.beginPath();
      let [x, y] = points[0];
      context.moveTo(x * side, y * side);
      for (const [nextX, nextY] of points.slice(1)) {
        // From middle to middle, each point pulling the line: a quick hand leaves few points.
        context.quadraticCurveTo(x * side, y * side, ((x + nextX) * side) / 2, ((y + nextY) * side) / 2);
        [x, y] = [nextX, nextY];
      }
      context.lineTo(x * side + 0.01, y * side); // a line of no length, a dot, is not drawn
      context.stroke();
    }
  }

  function repaint() {
    if (drawn) return;
    drawn = requestAnimationFrame(() => {
      drawn = 0;
      paint(sheet, Math.max(1, Math.round(sheet.clientWidth * devicePixelRatio)));
    });
  }

  function changed() {
    root.classList.toggle("is-empty", isEmpty());
    repaint();
    if (isEmpty()) forget();
    else {
      untold = ""; // it was of another drawing
      isNew = true;
      pump();
    }
  }

  function begin(point) {
    picture = null;
    line = [point];
    lines.push(line);
    changed();
  }

  function goOn(points) {
    line.push(...points);
    changed();
  }

  function undo() {
    if (picture) picture = null;
    else lines.pop();
    lift();
    changed();
  }

  function clear() {
    lines = [];
    picture = null;
    lift();
    changed();
  }

  // ---- reading: one at a time, the newest drawing next, and no answer to one that is gone ----

  let isNew = false;
  let isBusy = false;
  let opening = 0; // pictures that the browser is decoding
  let earliest = 0;
  let timer = 0;
  let cleared = 0; // how often the paper became empty

  function forget() {
    cleared += 1;
    isNew = false;
    pump();
    showNothing("Draw a digit, from 0 to 9.");
  }

  async function pump() {
    find("answer").ariaBusy = String(isBusy || isNew || opening > 0); // what is shown will change
    if (isBusy || !isNew || timer || signal.aborted) return;
    const wait = earliest - performance.now();
    if (wait > 0) {
      timer = setTimeout(() => {
        timer = 0;
        pump();
      }, wait);
      return;
    }
    isNew = false;
    isBusy = true;
    earliest = performance.now() + PAUSE;
    const asked = cleared;
    try {
      const answer = await read(picture ? picture.file : await photograph());
      if (asked === cleared) show(answer);
    } catch (problem) {
      if (asked === cleared) {
        showNothing(problem.message);
        if (problem instanceof NoAnswer) {
          isNew = true;
          earliest = performance.now() + RETRY;
        }
      }
    }
    isBusy = false;
    pump();
  }

  function photograph() {
    const canvas = document.createElement("canvas");
    paint(canvas, SIDE);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  // ---- the answer ----

  const percent = (share) => `${(100 * share).toFixed(1)}%`;

  function show(answer) {
    if (answer.digit === null) {
      showNothing(answer.statement);
      return;
    }
    const { digit, probabilities, sure, statement, image, milliseconds } = answer;
    const order = [...DIGITS].sort((a, b) => probabilities[b] - probabilities[a]);
    const second = order[1];
    const share = probabilities[second];
    let more = "Two digits are close: look at the bars.";
    if (sure) {
      more = share < 0.001 ? "No other digit comes near." : `Runner-up: ${second} (${percent(share)}).`;
    }
    root.classList.toggle("is-unsure", !sure);
    say(String(digit), statement, more);
    find("time").textContent = `Read in ${milliseconds.toFixed(0)} ms.`;
    showBars(probabilities, order);
    showSeen(image);
  }

  function showNothing(message) {
    root.classList.remove("is-unsure");
    say("?", message, "");
    find("time").textContent = "";
    showBars(DIGITS.map(() => 0), []);
    showSeen(null);
  }

  let told = 0;
  let untold = ""; // an answer that a screen reader has not heard yet

  function say(digit, statement, more) {
    root.classList.toggle("is-open", digit === "?");
    find("digit").textContent = digit;
    find("statement").textContent = statement;
    find("more").textContent = more;
    untold = `${statement} ${more}`;
    announce(untold, QUIET);
  }

  // Drawing changes the answer several times a second: a screen reader hears the last one, and
  // after what is said of the pen, should that come between.
  function announce(text, after = 0) {
    const tell = () => {
      find("announcer").textContent = text;
      if (text === untold) untold = "";
      else if (untold) announce(untold, QUIET);
    };
    clearTimeout(told);
    if (after) told = setTimeout(tell, after);
    else tell();
  }

  function showBars(probabilities, [first, second]) {
    root.querySelectorAll("tbody tr").forEach((row, digit) => {
      row.classList.toggle("is-first", digit === first);
      row.classList.toggle("is-second", digit === second);
      row.querySelector(".bar").style.width = `${100 * probabilities[digit]}%`;
      row.querySelector(".share").textContent =
        first === undefined ? "–" : percent(probabilities[digit]);
      row.querySelector(".place").textContent =
        digit === first ? "most likely" : digit === second ? "second" : "";
    });
  }

  function showSeen(image) {
    const canvas = find("seen");
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(28, 28);
    pixels.data.fill(255);
    for (let i = 0; i < 784; i += 1) {
      pixels.data.fill(image ? image[Math.floor(i / 28)][i % 28] : 0, 4 * i, 4 * i + 3);
    }
    context.putImageData(pixels, 0, 0);
    canvas.setAttribute(
      "aria-label",
      image
        ? "The digit as the network sees it: 28 by 28 pixels, bright ink on black, centred."
        : "What the network sees: nothing yet.",
    );
  }

  // ---- mouse, finger and pen ----

  let pointer = null;

  function place({ clientX, clientY }) {
    const box = sheet.getBoundingClientRect();
    return [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
  }

  listen(paper, "pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    event.preventDefault(); // no text is selected, no picture dragged
    paper.classList.add("by-pointer"); // no focus ring and no pen of keys in the way
    paper.focus({ preventScroll: true });
    paper.setPointerCapture(event.pointerId);
    lift();
    pointer = event.pointerId;
    begin(place(event));
  });
  listen(paper, "pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const all = event.getCoalescedEvents?.() ?? [];
    goOn((all.length ? all : [event]).map(place));
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    listen(paper, name, (event) => {
      if (event.pointerId === pointer) lift();
    });
  }

  // ---- keys ----

  let at = [0.5, 0.2];
  let isDown = false;
  const held = new Set(); // two arrows at once go diagonally

  function lift() {
    pointer = null;
    line = null;
    isDown = false;
    showPen();
  }

  function showPen() {
    pen.style.left = `${100 * at[0]}%`;
    pen.style.top = `${100 * at[1]}%`;
    pen.classList.toggle("is-down", isDown);
  }

  function move(step) {
    for (const arrow of held) {
      at = at.map((value, axis) => Math.min(1, Math.max(0, value + step * ARROWS[arrow][axis])));
    }
    showPen();
    if (isDown) goOn([at]);
    const [column, row] = at.map((value) => Math.round(10 * value));
    announce(`Pen ${isDown ? "down" : "up"}, ${column} across, ${row} down, of 10.`, QUIET);
  }

  function pressPen() {
    if (isDown) lift();
    else {
      begin(at);
      isDown = true;
      showPen();
    }
    announce(isDown ? "Pen down." : "Pen up.");
  }

  listen(paper, "keydown", (event) => {
    const { key } = event;
    const isUndo = key === "Backspace" || (key === "z" && (event.ctrlKey || event.metaKey));
    if (!isUndo && (event.ctrlKey || event.metaKey || event.altKey)) return;
    if (key in ARROWS) {
      held.add(key);
      move(event.shiftKey ? STRIDE : STEP);
    } else if (key === " " || key === "Enter") {
      if (!event.repeat) pressPen();
    } else if (isUndo) undo();
    else if (key === "Escape") clear();
    else return;
    paper.classList.remove("by-pointer");
    event.preventDefault();
    event.stopPropagation();
  });
  listen(paper, "keyup", ({ key }) => held.delete(key));
  listen(paper, "blur", () => {
    paper.classList.remove("by-pointer");
    held.clear();
    if (isDown) lift();
  });

  // ---- buttons and files ----

  async function open(chosen) {
    if (!chosen) return;
    clear();
    if (chosen.size > maxBytes) {
      const limit = Math.floor(maxBytes / 1e6);
      showNothing(`The file is larger than ${limit} MB: make the picture smaller and try again.`);
      return;
    }
    const asked = cleared;
    opening += 1;
    pump();
    const pixels = await createImageBitmap(chosen).catch(() => null); // it may be read all the same
    opening -= 1;
    pump();
    if (asked !== cleared || lines.length) return; // cleared or drawn over meanwhile
    picture = { file: chosen, pixels };
    changed();
  }

  listen(find("undo"), "click", undo);
  listen(find("clear"), "click", clear);
  listen(find("open"), "click", () => file.click());
  listen(file, "change", () => {
    open(file.files[0]);
    file.value = ""; // so that the same file can be opened again
  });
  listen(area, "dragover", (event) => {
    if (event.dataTransfer.types.includes("Files")) event.preventDefault();
  });
  listen(area, "drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    open(event.dataTransfer.files[0]);
  });
  listen(area, "paste", (event) => open(event.clipboardData.files[0]));

  // ---- begin ----

  const sizes = new ResizeObserver(repaint);
  sizes.observe(sheet);
  listen(window, "resize", repaint); // also when the page is zoomed
  lift();
  changed();

  return () => {
    end.abort();
    sizes.disconnect();
    clearTimeout(timer);
    clearTimeout(told);
  };
}

const template = (id) => `
  <div class="columns">
    <div class="drawing">
      <div class="paper" role="application" tabindex="0" aria-label="Drawing pad"
           aria-describedby="${id}-help">
        <canvas class="sheet" aria-hidden="true"></canvas>
        <p class="hint" aria-hidden="true">Draw a digit here</p>
        <div class="pen" aria-hidden="true"></div>
      </div>
      <div class="buttons">
        <button type="button" class="undo">Undo</button>
        <button type="button" class="clear">Clear</button>
        <button type="button" class="open">Open a picture</button>
        <input type="file" class="file" accept="image/*" hidden>
      </div>
    </div>
    <div class="answer">
      <div class="verdict">
        <span class="digit" aria-hidden="true"></span>
        <div>
          <p class="statement"></p>
          <p class="more"></p>
        </div>
      </div>
      <div class="evidence">
        <figure>
          <canvas class="seen" width="28" height="28" role="img"></canvas>
          <figcaption>What the network sees: 28 × 28 pixels</figcaption>
          <p class="time"></p>
        </figure>
        <table>
          <caption>Probability of each digit</caption>
          <thead class="unseen"><tr>
            <th scope="col">Digit</th><th scope="col">Bar</th><th scope="col">Probability</th>
          </tr></thead>
          <tbody>${DIGITS.map(
            (digit) => `<tr>
            <th scope="row">${digit}</th>
            <td class="track"><div class="bar"></div></td>
            <td><span class="share"></span> <span class="place unseen"></span></td>
          </tr>`,
          ).join("")}</tbody>
        </table>
      </div>
    </div>
    <p class="help" id="${id}-help">
      Draw with the mouse, a finger or a pen.
      With keys: <kbd>arrows</kbd> move the pen, <kbd>Shift</kbd> makes it faster,
      <kbd>Space</kbd> puts it down and lifts it, <kbd>Backspace</kbd> undoes,
      <kbd>Esc</kbd> clears.
    </p>
  </div>
  <p class="announcer unseen" role="status" aria-live="polite"></p>`;

// ---- in a notebook: pictures go to the kernel as messages, and answers come back ----

const KERNEL_SECONDS = 15;
const NO_KERNEL = "No answer: the kernel is busy, or stopped. If stopped, run the notebook again.";
const KERNEL_BYTES = 8e6; // Jupyter's server takes messages of 10 MB

function render({ model, el }) {
  el.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys would move between cells
  const waiting = new Map();
  const hear = (message) => waiting.get(message.id)?.(message);
  model.on("msg:custom", hear);

  async function read(blob) {
    const id = Math.random().toString(36).slice(2);
    const bytes = new DataView(await blob.arrayBuffer());
    const answer = await new Promise((resolve, reject) => {
      const late = setTimeout(
        () => reject(new NoAnswer(NO_KERNEL)),
        1000 * KERNEL_SECONDS,
      );
      waiting.set(id, (message) => {
        clearTimeout(late);
        resolve(message);
      });
      model.send({ id }, undefined, [bytes]);
    }).finally(() => waiting.delete(id));
    if (answer.error) throw new Error(answer.error);
    return answer;
  }

  const destroy = createPad(el, read, { maxBytes: KERNEL_BYTES });
  return () => {
    model.off("msg:custom", hear);
    destroy();
  };
}

export default { render };
