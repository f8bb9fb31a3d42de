// Sliders, the viewers of points, and players that show where they are; without this script all else on the page still works.
"use strict";

const SCALE = [
  [70, 107, 227], [40, 187, 235], [50, 242, 152], [164, 252, 60], [238, 207, 58], [251, 126, 33], [230, 66, 30],
];
const GROUND = 0xff130e0b;                          // of a canvas, as the four bytes of a pixel

// Sliders. Two pictures of one shape lie upon each other; a range that nobody sees moves the edge between them.

const sliders = [...document.querySelectorAll("[data-slide]")];
sliders.forEach(pair => {
  const range = document.createElement("input"), handle = document.createElement("i");
  Object.assign(range, { type: "range", min: 0, max: 100, step: 0.1, value: 50 });
  range.setAttribute("aria-label", "how much of the source is seen, in percent");
  handle.className = "handle";
  const cut = () => pair.style.setProperty("--cut", `${range.value}%`);
  range.addEventListener("input", cut);
  cut();
  pair.append(handle, range);
});
document.querySelectorAll("[data-ways]").forEach(row => {
  ["slide", "side by side"].forEach(way => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = way;
    button.addEventListener("click", () => lay(way));
    row.append(button);
  });
  lay(row.dataset.ways);
});

function lay(way) {
  sliders.forEach(pair => pair.classList.toggle("slide", way === "slide"));
  document.querySelectorAll("[data-ways] button").forEach(button => {
    button.setAttribute("aria-pressed", button.textContent === way);
  });
}

// Viewers. Those of one figure share where they are seen from, and what colours them.

const views = new Map();
document.querySelectorAll(".cloud").forEach(place => {
  const figure = place.closest("figure");
  const cloud = { canvas: place.querySelector("canvas"), place, unit: Number(place.dataset.unit) };
  if (!views.has(figure)) {
    const reach = Number(place.dataset.reach);
    views.set(figure, { clouds: [], home: { yaw: 0, pitch: 0.6, far: 2 * reach }, pointers: new Map(), colouring: 0 });
    Object.assign(views.get(figure), views.get(figure).home);
  }
  const view = views.get(figure);
  view.clouds.push(cloud);
  watch(view, cloud);
});
views.forEach(view => view.clouds.forEach(cloud => choices(view, cloud)));

function unpack(cloud) {
  const bytes = Uint8Array.from(atob(cloud.place.dataset.points), letter => letter.charCodeAt(0));
  const kinds = JSON.parse(cloud.place.dataset.colourings);
  const number = cloud.number = bytes.length / (6 + kinds.length);
  const words = new DataView(bytes.buffer);
  cloud.xyz = Float32Array.from({ length: 3 * number }, (_, index) => words.getInt16(2 * index, true) * cloud.unit);
  cloud.colours = kinds.map(([, kind], layer) => {
    const colour = kind === "scale" ? value => onScale(value / 255) : ofClass;
    const table = Uint32Array.from({ length: 256 }, (_, value) => colour(value));
    const start = (6 + layer) * number;
    return Uint32Array.from(bytes.subarray(start, start + number), value => table[value]);
  });
  cloud.colours.push(heights(cloud));
  delete cloud.place.dataset.points;
}

function heights(cloud) {
  const z = Float32Array.from({ length: cloud.number }, (_, index) => cloud.xyz[3 * index + 2]);
  const ordered = Float32Array.from(z).sort();
  const low = ordered[Math.floor(0.02 * z.length)], high = ordered[Math.floor(0.98 * z.length)];
  return Uint32Array.from(z, value => onScale(Math.min(Math.max((value - low) / (high - low || 1), 0), 1)));
}

function draw(view, cloud) {
  const canvas = cloud.canvas, width = canvas.width, height = canvas.height;
  const frame = canvas.getContext("2d").createImageData(width, height);
  const pixels = new Uint32Array(frame.data.buffer).fill(GROUND);
  const nearest = new Float32Array(width * height).fill(Infinity);
  const colours = cloud.colours[Math.min(view.colouring, cloud.colours.length - 1)], xyz = cloud.xyz;
  const cosY = Math.cos(view.yaw), sinY = Math.sin(view.yaw), cosP = Math.cos(view.pitch), sinP = Math.sin(view.pitch);
  const focal = 0.9 * Math.max(height, width / 2), size = Math.max(1, Math.round(width / 330));
  for (let index = 0; index < cloud.number; index++) {
    const x = xyz[3 * index], y = xyz[3 * index + 1], z = xyz[3 * index + 2];
    const ahead = x * cosY + y * sinY, left = y * cosY - x * sinY;
    const depth = view.far + ahead * cosP - z * sinP;
    if (depth < 0.05 * view.far) continue;
    const column = Math.round(width / 2 - focal * left / depth);
    const row = Math.round(height / 2 - focal * (ahead * sinP + z * cosP) / depth);
    for (let down = row; down < row + size; down++) for (let right = column; right < column + size; right++) {
      if (down < 0 || right < 0 || down >= height || right >= width || depth >= nearest[down * width + right]) continue;
      nearest[down * width + right] = depth;
      pixels[down * width + right] = colours[index];
    }
  }
  canvas.getContext("2d").putImageData(frame, 0, 0);
}

function redraw(view) {
  if (view.asked) return;
  view.asked = requestAnimationFrame(() => {
    view.asked = 0;
    view.clouds.filter(cloud => cloud.visible).forEach(cloud => draw(view, cloud));
  });
}

function watch(view, cloud) {
  const canvas = cloud.canvas;
  new IntersectionObserver(([entry]) => {
    cloud.visible = entry.isIntersecting;
    if (cloud.visible && !cloud.xyz) unpack(cloud);
    if (cloud.visible) redraw(view);
  }).observe(canvas);
  new ResizeObserver(() => {
    const sharp = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * sharp));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * sharp));
    redraw(view);
  }).observe(canvas);
  canvas.addEventListener("pointerdown", event => {
    view.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", event => moved(view, canvas, event));
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, event => view.pointers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", event => {             // only once it was clicked: the page must scroll past it
    if (document.activeElement !== canvas) return;
    event.preventDefault();
    turn(view, 0, 0, Math.exp(event.deltaY / 600));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => { Object.assign(view, view.home); redraw(view); });
  canvas.addEventListener("keydown", event => {
    const step = { ArrowLeft: [-0.1, 0, 1], ArrowRight: [0.1, 0, 1], ArrowUp: [0, 0.1, 1], ArrowDown: [0, -0.1, 1],
      "+": [0, 0, 0.9], "-": [0, 0, 1.1] }[event.key];
    if (!step) return;
    event.preventDefault();
    turn(view, ...step);
  });
}

// One finger or the mouse turns; two fingers zoom, and tilt, because one finger up and down scrolls the page.
function moved(view, canvas, event) {
  const before = view.pointers.get(event.pointerId);
  if (!before) return;
  const others = [...view.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
  const across = event.clientX - before[0], down = event.clientY - before[1];
  if (others.length) {
    const apart = (x, y) => Math.hypot(x - others[0][0], y - others[0][1]) + 1;
    turn(view, 0, down / 300, apart(...before) / apart(event.clientX, event.clientY));
  } else {
    turn(view, across / 200, down / 200, 1);
  }
  view.pointers.set(event.pointerId, [event.clientX, event.clientY]);
}

function turn(view, yaw, pitch, zoom) {
  view.yaw += yaw;
  view.pitch = Math.min(Math.max(view.pitch + pitch, -1.5), 1.57);
  view.far = Math.min(Math.max(view.far * zoom, view.home.far / 50), view.home.far * 20);
  redraw(view);
}

function choices(view, cloud) {
  const names = [...JSON.parse(cloud.place.dataset.colourings).map(([name]) => name), "height"];
  const row = cloud.place.querySelector(".choices");
  names.forEach((name, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => { view.colouring = index; mark(view); redraw(view); });
    row.append(button);
  });
  mark(view);
}

function mark(view) {
  view.clouds.forEach(cloud => cloud.place.querySelectorAll("button").forEach((button, index) => {
    button.setAttribute("aria-pressed", index === view.colouring);
  }));
}

function onScale(share) {
  const place = share * (SCALE.length - 1), lower = Math.min(Math.floor(place), SCALE.length - 2), rest = place - lower;
  return pixel(...[0, 1, 2].map(part => SCALE[lower][part] * (1 - rest) + SCALE[lower + 1][part] * rest));
}

function ofClass(value) {                           // neighbours in number are far apart in colour
  if (!value) return pixel(110, 118, 130);
  const hue = value * 2.39996, light = 165 + 30 * (value % 3);
  return pixel(...[0, 2.0944, 4.1888].map(shift => Math.min(255, light + 85 * Math.cos(hue - shift))));
}

function pixel(red, green, blue) {
  return (255 << 24 | Math.round(blue) << 16 | Math.round(green) << 8 | Math.round(red)) >>> 0;
}

// Players. One at a time is heard; a line on the picture above shows where it is, a click on the picture goes there.
// The film beside it runs along without its sound, so that source and translation can be compared as they move.

let heard = null;                                   // the player that was started, or turned up, last
const hushed = new WeakSet();                       // those that are silent because the one beside them is heard
function hush(player) {
  if (!player.muted) hushed.add(player);
  player.muted = true;
}

document.querySelectorAll("audio, video").forEach(player => {
  const beside = player.matches("video") ? [...player.closest(".pair").querySelectorAll("video")] : [];
  const twin = beside.find(other => other !== player);
  const side = player.closest(".side");
  const frame = side.querySelector(".frame:has(.strip)") || player.matches("audio") && side.querySelector(".frame");
  const line = frame && frame.querySelector("i");
  const follow = () => {
    if (line) line.style.left = `${100 * player.currentTime / (player.duration || 1)}%`;
    if (!player.paused) requestAnimationFrame(follow);
  };
  player.addEventListener("play", () => {
    if (line) line.hidden = false;
    follow();
    if (twin && twin === heard && !twin.paused) return;             // it was started by the other one
    heard = player;
    document.querySelectorAll("audio, video").forEach(other => other === player || other === twin || other.pause());
    if (!twin) return;
    if (hushed.delete(player)) player.muted = false;
    hush(twin);
    twin.currentTime = player.currentTime;
    twin.play();
  });
  player.addEventListener("pause", () => twin && !player.ended && twin.pause());
  player.addEventListener("volumechange", () => {
    if (!twin || player.muted || heard === player) return;
    heard = player;
    hushed.delete(player);
    hush(twin);
  });
  player.addEventListener("seeked", () => {
    follow();
    if (twin && Math.abs(twin.currentTime - player.currentTime) > 0.1) twin.currentTime = player.currentTime;
  });
  if (frame) frame.addEventListener("click", event => {
    const box = frame.getBoundingClientRect();
    if (player.duration) player.currentTime = player.duration * (event.clientX - box.left) / box.width;
    player.play();
  });
});
