'use strict';
// The page holds what is shown as a view (see views.py); the server turns views into pictures.
const $ = id => document.getElementById(id);
const LARGEST = 11e6; // bytes of a picture; in base64 it fits into a request
let about, view, ends = {}, shown = '', latencies = [];
let condition = null, picture = null; // picture: what a hole is painted into, once it is

async function ask(call, content = {}) {
  const answer = await fetch('/' + call, {
    method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(content),
  });
  const made = await answer.json();
  if (!answer.ok) throw new Error(made.error);
  return made;
}

async function attempt(work) {
  try { $('error').hidden = true; await work(); } catch (error) {
    $('error').textContent = error instanceof TypeError ? 'The explorer does not answer: is it still running?' : error.message;
    $('error').hidden = false;
  }
}

const uri = png => 'data:image/png;base64,' + png;
function put(image, png) { image.src = uri(png); image.hidden = false; image.classList.toggle('small', about.size < 64); }

// One request at a time; of the moves made meanwhile, the newest alone is asked for.
let busy = false, waiting = null;
async function show(next, caption) {
  const since = performance.now();
  if (busy) { waiting = [next, caption]; return; }
  busy = true;
  await attempt(async () => {
    const made = await ask('show', next);
    view = next; shown = made.image;
    put($('image'), shown);
    $('caption').textContent = caption;
    $('text').hidden = true;
    await $('image').decode();
    latencies.push(performance.now() - since);
    document.body.dataset.shown = latencies.length;
  });
  busy = false;
  if (waiting) { const [n, c] = waiting; waiting = null; await show(n, c); }
}

const amounts = id => [...$(id).querySelectorAll('input')].map(input => Number(input.value));
function latent() { return {z: start.z, condition, directions: amounts('directions'), vectors: amounts('vectors')}; }
let start = {z: [], caption: ''};
function move() { leavePainting(); return show(latent(), start.caption); }

function slider(home, name, limit) {
  const row = document.createElement('label'), span = document.createElement('span');
  const input = document.createElement('input'), output = document.createElement('output');
  row.className = 'row'; span.textContent = name;
  Object.assign(input, {type: 'range', min: -limit, max: limit, step: 0.1, value: 0});
  input.setAttribute('aria-label', name);
  const tell = () => { output.textContent = Number(input.value).toFixed(1); };
  input.addEventListener('input', () => { tell(); move(); });
  input.addEventListener('told', tell);
  row.append(span, input, output); home.append(row); tell();
}
function reset() {
  for (const input of document.querySelectorAll('.sliders input')) { input.value = 0; input.dispatchEvent(new Event('told')); }
}

// --- Start: samples, or a picture of one's own.
async function draw() {
  const {samples} = await ask('samples', {seed: Math.floor(Math.random() * 2 ** 31), condition});
  $('samples').replaceChildren(...samples.map((sample, i) => {
    const button = document.createElement('button'), image = document.createElement('img');
    put(image, sample.image); image.alt = `sample ${i + 1}`;
    button.type = 'button'; button.append(image);
    button.addEventListener('click', () => choose(sample.z, 'a sample', button));
    return button;
  }));
  return $('samples').firstChild.click();
}
function choose(z, caption, button) {
  for (const other of $('samples').children) other.classList.toggle('on', other === button);
  if (button) { $('own').hidden = true; own = null; }
  start = {z, caption}; reset();
  return move();
}
let own = null; // the bytes of one's own picture, in base64
async function load(file) {
  if (!file) return;
  if (file.size > LARGEST) throw new Error('This picture has more than 11 MB: use a smaller one.');
  const url = await new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result); reader.onerror = () => fail(reader.error);
    reader.readAsDataURL(file);
  });
  own = url.split(',')[1];
  await encode();
}
async function encode() {
  const made = await ask('encode', {picture: own, condition});
  put($('own').firstElementChild, made.picture); $('own').hidden = false; $('own').dataset.png = made.picture;
  await choose(made.z, 'its reconstruction', null);
}
async function changeCondition() {
  if (own) return encode(); // its latent depends on the condition
  await move();
}

// --- A hole: painted over a picture, filled by the model.
const pen = $('paint').getContext('2d');
let down = null;
function leavePainting() { $('paint').hidden = true; $('hole').classList.remove('on'); $('fill').disabled = true; $('back').disabled = true; picture = null; }
function paint() {
  picture = own && picture === null ? $('own').dataset.png : shown;
  put($('image'), picture);
  pen.clearRect(0, 0, 512, 512); pen.lineCap = pen.lineJoin = 'round'; pen.strokeStyle = pen.fillStyle = '#fff';
  $('paint').hidden = false; $('hole').classList.add('on'); $('fill').disabled = true;
  $('caption').textContent = 'paint the hole';
}
function stroke(event) {
  const box = $('paint').getBoundingClientRect(), at = [(event.clientX - box.left) * 512 / box.width, (event.clientY - box.top) * 512 / box.height];
  pen.lineWidth = Number($('brush').value);
  pen.beginPath(); pen.moveTo(...(down || at)); pen.lineTo(at[0] + 0.01, at[1]); pen.stroke();
  down = at; $('fill').disabled = false;
}
function hole() {
  const small = document.createElement('canvas'), size = about.size;
  small.width = small.height = size;
  const to = small.getContext('2d');
  to.fillStyle = '#000'; to.fillRect(0, 0, size, size); to.drawImage($('paint'), 0, 0, size, size);
  return small.toDataURL('image/png').split(',')[1];
}
async function fill() {
  const kept = picture;
  await show({picture: kept, hole: hole(), condition}, 'the hole filled');
  $('paint').hidden = true; $('hole').classList.remove('on'); $('fill').disabled = true; $('back').disabled = false;
  picture = kept;
}

// --- Morph, save, code.
function keep(end) {
  if (!view || view.hole) throw new Error('A filled picture is no single latent: choose a sample or a picture as the end of a morph.');
  if ('t' in view) throw new Error('Choose a sample or a picture as the end of a morph.');
  ends[end] = view; put($(end + 'image'), shown);
  $('t').disabled = !(ends.from && ends.to);
}
function download(name, href) {
  const link = document.createElement('a');
  link.download = name; link.href = href; link.click();
}
const code = async () => (await ask('code', view)).code;
function on(id, event, work) { $(id).addEventListener(event, e => attempt(() => work(e))); }

on('draw', 'click', draw);
on('reset', 'click', () => { reset(); return move(); });
on('file', 'change', () => load($('file').files[0]));
on('class', 'change', () => { condition = condition.map((_, i) => Number(i === $('class').selectedIndex)); return changeCondition(); });
on('from', 'click', () => keep('from'));
on('to', 'click', () => keep('to'));
on('t', 'input', () => { leavePainting(); return show({...ends, t: Number($('t').value)}, `${Math.round(100 * $('t').value)} % of the way`); });
on('hole', 'click', paint);
on('fill', 'click', fill);
on('back', 'click', move);
on('save', 'click', () => download('picture.png', uri(shown)));
on('code', 'click', async () => { const text = await code(); $('text').textContent = text; $('text').hidden = false; });
on('savecode', 'click', async () => { const url = URL.createObjectURL(new Blob([await code()])); download('picture.py', url); setTimeout(() => URL.revokeObjectURL(url), 1000); });
$('paint').addEventListener('pointerdown', e => { $('paint').setPointerCapture(e.pointerId); down = null; stroke(e); });
$('paint').addEventListener('pointermove', e => { if (e.buttons && $('paint').hasPointerCapture(e.pointerId)) stroke(e); });
for (const event of ['dragover', 'drop', 'dragleave']) {
  document.addEventListener(event, e => {
    e.preventDefault(); // the browser would open the picture instead
    $('drop').classList.toggle('over', event === 'dragover');
    if (event === 'drop' && about.encoder) attempt(() => load(e.dataTransfer.files[0]));
  });
}

attempt(async () => {
  about = await ask('about');
  ({condition} = about);
  document.title = $('title').textContent = about.title; $('source').textContent = about.source;
  for (let i = 1; i <= about.directions; i++) slider($('directions'), `direction ${i}`, 4);
  for (const name of about.vectors) slider($('vectors'), name, 3);
  if (about.missing) { $('missing').textContent = 'No attributes of the data set: ' + about.missing; $('missing').hidden = false; }
  $('drop').hidden = $('inpaint').hidden = !about.encoder;
  if (about.kind === 'label') {
    $('classes').hidden = false;
    $('class').append(...about.names.map(name => new Option(name)));
    $('class').selectedIndex = condition.indexOf(1);
  }
  if (about.kind === 'attributes') {
    $('attributes').hidden = false;
    about.names.forEach((name, i) => {
      const label = document.createElement('label'), tick = document.createElement('input');
      tick.type = 'checkbox'; tick.checked = condition[i] > 0;
      tick.addEventListener('change', () => attempt(() => { condition = condition.map((v, j) => i === j ? Number(tick.checked) : v); return changeCondition(); }));
      label.append(tick, ' ', name); document.querySelector('#attributes .ticks').append(label);
    });
  }
  await draw();
});
