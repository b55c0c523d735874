// What a track is and how it is drawn: decoding, the 2D image plane, the small perspective camera.

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Numbers of `size` bytes each, little-endian, read by a method of DataView. */
function numbersRead(text, read, size) {
  const bytes = new DataView(bytesOf(text).buffer);
  return Array.from({ length: bytes.byteLength / size }, (_, i) => bytes[read](size * i, true));
}

/** Numbers written as int16 steps from an origin (see `quantise` in view.py). */
const numbersOf = ({ data, origin, step }) =>
  Float32Array.from(numbersRead(data, "getInt16", 2), (steps) => origin + step * steps);

function decodeTrack(packed) {
  const bits = bytesOf(packed.is_observed);
  const track = {
    ...packed,
    frames: numbersRead(packed.frames, "getInt32", 4),
    time_s: numbersRead(packed.time_s, "getFloat64", 8),
    joints_m: numbersOf(packed.joints_rel_m),
    keypoints_px: numbersOf(packed.keypoints_px),
    confidence: Float32Array.from(bytesOf(packed.confidence), (byte) => byte / 255),
  };
  track.isObserved = (cell) => ((bits[cell >> 3] >> (7 - (cell & 7))) & 1) === 1;
  return track;
}

/** Colours of the page, read anew when the colour scheme changes. */
function palette() {
  const style = getComputedStyle(document.documentElement);
  const names = ["page", "card", "ink", "muted", "line", "left", "right", "middle"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Match a canvas to its box in device pixels; returns a context that draws in CSS pixels. */
function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.lineCap = context.lineJoin = "round";
  context.globalAlpha = 1;
  return { context, width, height };
}

function line(context, from, to, { colour, width, alpha = 1, dash = [] }) {
  context.globalAlpha = alpha;
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.beginPath();
  context.moveTo(from[0], from[1]);
  context.lineTo(to[0], to[1]);
  context.stroke();
}

function dot(context, at, { colour, radius, alpha = 1, hollow = null }) {
  context.globalAlpha = alpha;
  context.setLineDash([]);
  context.beginPath();
  context.arc(at[0], at[1], radius, 0, 2 * Math.PI);
  context.fillStyle = hollow ?? colour;
  context.fill();
  if (hollow === null) return;
  context.strokeStyle = colour;
  context.lineWidth = Math.max(1.5, radius * 0.5);
  context.stroke();
}

/** Where the lifted joints fall in the image: scale and shift that fit the seen keypoints best. */
function imageOfJoints(track, first, joints) {
  const seen = [...Array(joints).keys()].filter((j) => track.isObserved(first + j));
  if (seen.length < 3) return null;
  const mean = (array, size, axis) => seen.reduce((sum, j) => sum + array[size * (first + j) + axis], 0) / seen.length;
  const joint = [mean(track.joints_m, 3, 0), mean(track.joints_m, 3, 1)];
  const pixel = [mean(track.keypoints_px, 2, 0), mean(track.keypoints_px, 2, 1)];
  let [across, within] = [0, 0];
  for (const j of seen) {
    for (const axis of [0, 1]) {
      const metres = track.joints_m[3 * (first + j) + axis] - joint[axis];
      across += metres * (track.keypoints_px[2 * (first + j) + axis] - pixel[axis]);
      within += metres * metres;
    }
  }
  const scale = within > 0 ? across / within : 0;
  return (j) => [0, 1].map((axis) => pixel[axis] + scale * (track.joints_m[3 * (first + j) + axis] - joint[axis]));
}

/** The 2D input of frame `index`, on its image plane. */
function drawInput(canvas, skeleton, track, index, colours, alpha) {
  const { context, width, height } = prepare(canvas);
  const [left, top, right, bottom] = track.image_box_px;
  const scale = Math.min((width - 28) / (right - left), (height - 24) / (bottom - top));
  const shift = [(width - scale * (right - left)) / 2, (height - scale * (bottom - top)) / 2];
  const place = ([x, y]) => [shift[0] + scale * (x - left), shift[1] + scale * (y - top)];
  context.fillStyle = colours.page;
  context.fillRect(...shift, scale * (right - left), scale * (bottom - top));
  context.strokeStyle = colours.line;
  context.lineWidth = 1;
  context.setLineDash(track.is_image_known ? [] : [4, 4]);
  context.strokeRect(...shift, scale * (right - left), scale * (bottom - top));

  const joints = skeleton.joints.length;
  const first = index * joints;
  const filledIn = imageOfJoints(track, first, joints);
  const points = skeleton.joints.map((_, j) => {
    if (track.confidence[first + j] > 0) return place([0, 1].map((axis) => track.keypoints_px[2 * (first + j) + axis]));
    return filledIn && place(filledIn(j));
  });
  const isSeen = (j) => track.isObserved(first + j);
  const strength = (j) => alpha * (isSeen(j) ? 0.12 + 0.88 * track.confidence[first + j] : 0.6);
  const unit = Math.max(1, Math.min(width, height) / 300);
  for (const [child, parent, side] of skeleton.bones) {
    if (!points[child] || !points[parent]) continue;
    const dash = isSeen(child) && isSeen(parent) ? [] : [2, 5];
    const style = { colour: colours[side], width: 2.5 * unit, alpha: Math.min(strength(child), strength(parent)), dash };
    line(context, points[child], points[parent], style);
  }
  points.forEach((point, j) => {
    if (!point) return;
    const hollow = isSeen(j) ? null : colours.page;
    dot(context, point, { colour: colours[skeleton.sides[j]], radius: 3.2 * unit, alpha: strength(j), hollow });
  });
}

/** A camera that circles the point `centre` (metres, y up) at `distance_m`. */
function orbitCamera({ yaw, pitch, zoom }, { centre, radius_m }, width, height) {
  const distance = 4.5 * radius_m;
  const focal = (zoom * 0.46 * Math.min(height, 1.5 * width) * distance) / radius_m;
  const [sinYaw, cosYaw, sinPitch, cosPitch] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
  return (x, y, z) => {
    const [dx, dy, dz] = [x - centre[0], y - centre[1], z - centre[2]];
    const across = cosYaw * dx + sinYaw * dz;
    const along = -sinYaw * dx + cosYaw * dz;
    const up = cosPitch * dy - sinPitch * along;
    const depth = Math.max(distance - (sinPitch * dy + cosPitch * along), 0.05 * distance);
    const size = focal / depth;
    return [width / 2 + size * across, height / 2 - size * up, depth, size];
  };
}

function drawFloor(context, project, floor, colours) {
  const half = 1;
  for (let at = -half; at <= half + 1e-6; at += 0.5) {
    const style = { colour: colours.line, width: 1 };
    line(context, project(at, floor, -half), project(at, floor, half), style);
    line(context, project(-half, floor, at), project(half, floor, at), style);
  }
  // The side from which the person was filmed.
  const mark = [project(-0.09, floor, half + 0.1), project(0.09, floor, half + 0.1), project(0, floor, half + 0.24)];
  context.globalAlpha = 0.7;
  context.fillStyle = colours.muted;
  context.beginPath();
  mark.forEach(([x, y]) => context.lineTo(x, y));
  context.fill();
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "center";
  context.fillText("camera", mark[2][0], mark[2][1] + 14);
}

/** The lifted skeleton of frame `index`; camera axes turned upright and levelled: y is up, z towards the camera. */
function drawLifted(canvas, skeleton, track, index, colours, alpha, view) {
  const { context, width, height } = prepare(canvas);
  const project = orbitCamera(view, track.bounds, width, height);
  const floor = track.floor_m;
  drawFloor(context, project, floor, colours);

  const first = index * skeleton.joints.length;
  const [rise, run] = [Math.sin(track.tilt_rad), Math.cos(track.tilt_rad)];
  const at = (j) => {
    const [x, y, z] = track.joints_m.subarray(3 * (first + j), 3 * (first + j) + 3);
    return [x, -run * y - rise * z, rise * y - run * z];
  };
  const bodies = skeleton.joints.map((_, j) => at(j));
  const spots = bodies.map((body) => project(...body));
  const isSeen = (j) => track.isObserved(first + j);
  const bones = skeleton.bones.map(([child, parent, side]) => {
    const depth = (spots[child][2] + spots[parent][2]) / 2;
    const thickness = 0.0155 * (spots[child][3] + spots[parent][3]);
    const dash = isSeen(child) && isSeen(parent) ? [] : [0.6 * thickness, 1.9 * thickness];
    return { child, parent, depth, width: thickness, colour: colours[side], alpha, dash };
  });
  for (const { child, parent } of bones) {
    const [from, to] = [child, parent].map((j) => project(bodies[j][0], floor, bodies[j][2]));
    line(context, from, to, { colour: colours.ink, width: 4, alpha: 0.08 * alpha });
  }
  const parts = bones.map((bone) => ({ depth: bone.depth, draw: () => line(context, spots[bone.child], spots[bone.parent], bone) }));
  skeleton.joints.forEach((_, j) => {
    // A joint lies over all bones that end in it.
    const depth = Math.min(...bones.filter((bone) => bone.child === j || bone.parent === j).map((bone) => bone.depth));
    const style = { colour: colours[skeleton.sides[j]], radius: 0.024 * spots[j][3], alpha };
    parts.push({ depth: depth - 1e-3, draw: () => dot(context, spots[j], { ...style, hollow: isSeen(j) ? null : colours.card }) });
  });
  parts.sort((a, b) => b.depth - a.depth).forEach((part) => part.draw());
}
