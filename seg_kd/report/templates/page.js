'use strict';
for (const choice of document.querySelectorAll('.choice')) {
  const buttons = choice.querySelectorAll('button');
  for (const button of buttons) {
    button.addEventListener('click', () => {
      choice.style.setProperty('--x', button.dataset.x);
      choice.style.setProperty('--y', button.dataset.y);
      for (const other of buttons) {
        other.setAttribute('aria-pressed', String(other === button));
      }
    });
  }
}
