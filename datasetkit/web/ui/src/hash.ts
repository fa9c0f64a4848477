/** A short name of a text: so the built translations need not contain the English of the server. */

export function hash(text: string): string {
  let value = 7;
  for (let at = 0; at < text.length; at += 1) value = (value * 31 + text.charCodeAt(at)) % 36 ** 4;
  return value.toString(36);
}
