/** The tab Compare: which epoch to keep, judged by images, with the measures beside them. */

import { useCallback, useEffect, useMemo, useState } from "react";
import { isMissing } from "../../http";
import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";
import { Loading } from "../../parts/Loading";
import { useStudio, useStudioState } from "../../studio/context";
import { type GridList, loadGrid, loadGrids } from "./api";
import "./compare.css";
import { CompareView } from "./CompareView";
import { joinedGrid } from "./joined";
import { DrawDialog } from "./DrawDialog";
import type { Grid } from "./shapes";

/** What was shown last: it is there again on return. */
let last: { list: GridList | null; grid: Grid | null; second: Grid | null } = {
  list: null,
  grid: null,
  second: null,
};

export default function Compare() {
  const studio = useStudio();
  const project = useStudioState((state) => state.project);
  const [list, setList] = useState(last.list);
  const [grid, setGrid] = useState(last.grid);
  const [second, setSecond] = useState(last.second);
  const [drawing, setDrawing] = useState(false);
  last = { list, grid, second };
  const shown = useMemo(() => grid && (second ? joinedGrid(grid, second) : grid), [grid, second]);

  const choose = useCallback(
    async (id: string) => {
      try {
        setGrid(await loadGrid(studio.http, id));
        setSecond((before) => (before?.id === id ? null : before));
      } catch (error) {
        studio.fail(error);
      }
    },
    [studio],
  );
  const chooseSecond = useCallback(
    async (id: string) => {
      try {
        setSecond(id === "" ? null : await loadGrid(studio.http, id));
      } catch (error) {
        studio.fail(error);
      }
    },
    [studio],
  );
  const load = useCallback(async () => {
    try {
      const loaded = await loadGrids(studio.http);
      setList(loaded);
      const first = loaded.grids.find((entry) => entry.id === last.grid?.id) ?? loaded.grids[0];
      if (first) await choose(first.id);
      else setGrid(null);
      const beside = loaded.grids.find((entry) => entry.id === last.second?.id);
      await chooseSecond(first && beside ? beside.id : "");
    } catch (error) {
      setList({ grids: [], runs: [] });
      if (!isMissing(error)) studio.fail(error);
    }
  }, [studio, choose, chooseSecond]);
  // The project's facts change when files do.
  useEffect(() => void load(), [load, project]);

  if (list === null) return <Loading />;
  const dialog = drawing ? (
    <DrawDialog runs={list.runs} grid={grid} close={() => setDrawing(false)} />
  ) : null;
  if (grid === null || shown === null) {
    return (
      <WorkArea>
        <EmptyState
          title={t("compare.empty")}
          hint={list.runs.length ? t("compare.empty.draw") : t("compare.empty.hint")}
          question={t("compare.question")}
          answer={t("compare.answer")}
          next={list.runs.length ? undefined : "train"}
        >
          {list.runs.length ? (
            <button type="button" className="primary" onClick={() => setDrawing(true)}>
              {t("compare.draw")}
            </button>
          ) : null}
        </EmptyState>
        {dialog}
      </WorkArea>
    );
  }
  return (
    <>
      <CompareView
        key={`${grid.id} ${second?.id ?? ""}`}
        grid={shown}
        first={grid}
        second={second}
        grids={list.grids}
        canDraw={list.runs.length > 0}
        choose={(id) => void choose(id)}
        chooseSecond={(id) => void chooseSecond(id)}
        draw={() => setDrawing(true)}
        reload={load}
        setMarks={(id, marks) =>
          id === grid.id
            ? setGrid({ ...grid, marks })
            : setSecond((before) => before && { ...before, marks })
        }
      />
      {dialog}
    </>
  );
}
