/** The cards of this machine, asked for once. */

import { useEffect } from "react";
import { Store, useStore } from "../../store";
import type { System } from "../../studio/api";
import { useStudio } from "../../studio/context";

type Cards = System["cards"];

const store = new Store<{ readonly cards: Cards; readonly asked: boolean }>({
  cards: [],
  asked: false,
});

export function useCards(): Cards {
  const studio = useStudio();
  useEffect(() => {
    if (store.get().asked) return;
    store.set({ asked: true });
    studio.api
      .system()
      .then(({ cards }) => store.set({ cards }))
      .catch((error: unknown) => studio.fail(error));
  }, [studio]);
  return useStore(store, (state) => state.cards);
}
